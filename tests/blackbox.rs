//! The black-box tests: the real plugin and the real daemon, in network namespaces of their own.
//!
//! The process enters private namespaces before `main` (`support/enter.rs`), so plain `cargo test`
//! runs every test in parallel and leaves the machine as it was. A test begins with `world!()`;
//! where namespaces are not to be had it says `skipped:` and why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panic")]
#![allow(unsafe_code, reason = "entering namespaces between fork and exec, and before main")]

#[macro_use]
mod support;

mod crash_points;
mod crash_restart;
mod crash_state;
mod daemon_alone;
mod daemon_config_dir;
mod daemon_documents;
mod daemon_frames;
mod daemon_http;
mod daemon_log;
mod daemon_peers;
mod daemon_settings;
mod daemon_status;
mod daemon_user;
mod docker_containers;
mod docker_networks;
mod docker_samples;
mod dropin_chain;
mod dropin_host_local;
mod dropin_install;
mod ipam_delegated;
mod ipam_delegated_verbs;
mod ipam_pools;
mod ipam_requested;
mod ipam_reserved;
mod ipam_static;
mod ipam_takeover;
mod network_bandwidth;
mod network_bridge;
mod network_burst;
mod network_conntrack;
mod network_first_packet;
mod network_fragments;
mod network_guard;
mod network_healing;
mod network_ipv6;
mod network_isolation;
mod network_keys;
mod network_orphans;
mod network_ports;
mod network_ports_life;
mod network_ports_loopback;
mod network_ports_shared;
mod network_repair;
mod network_routed;
mod network_routes;
mod network_spoof;
mod network_stranger;
mod network_tuning;
mod network_unmasked;
mod policy_asked;
mod policy_audit;
mod policy_cases;
mod policy_elements;
mod policy_families;
mod policy_files;
mod policy_flows;
mod policy_groups;
mod policy_icmp;
mod policy_left;
mod policy_live;
mod policy_ports;
mod policy_races;
mod policy_start;
mod runtime_samples;
mod spec_add;
mod spec_add_again;
mod spec_chain;
mod spec_check;
mod spec_del;
mod spec_errors;
mod spec_gc;
mod spec_input;
mod spec_order;
mod spec_renamed;
mod spec_status;
mod spec_version;
