#!/bin/sh
# An IPAM plugin for tests. What it does is told by files beside the name it is called by: `result` is
# what an ADD prints; `VERB.fails` makes a verb print that and fail; `deaf` leaves the input unread. It
# keeps a log of its calls, each verb's last input and environment, and a file for each lease.
here=${0%/*}
lease="$here/lease.$CNI_CONTAINERID.$CNI_IFNAME"
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME" >>"$here/log"
env >"$here/$CNI_COMMAND.env"
[ -e "$here/deaf" ] || cat >"$here/$CNI_COMMAND.stdin"
echo "my-ipam was here" >&2
if [ -e "$here/$CNI_COMMAND.fails" ]; then
	cat "$here/$CNI_COMMAND.fails"
	exit 1
fi
case $CNI_COMMAND in
ADD)
	if [ -e "$lease" ]; then
		echo '{"code": 999, "msg": "it has a lease"}'
		exit 1
	fi
	: >"$lease"
	cat "$here/result"
	;;
DEL) rm -f "$lease" ;;
CHECK)
	if [ ! -e "$lease" ]; then
		echo '{"cniVersion": "0.4.0", "code": 111, "msg": "it has no lease", "details": "at all"}'
		exit 1
	fi
	;;
esac
