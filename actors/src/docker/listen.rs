//! The socket that dockerd finds by its place and name (`/run/docker/plugins/NAME.sock`): HTTP/1.1, one
//! request a connection. Only root may connect, and dockerd is root.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actix::Recipient;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use quantum_cni::access::{self, Asked};
use quantum_cni::kernel::peer::{self, Credentials};
use quantum_cni::kernel::socket_file;
use slog::{Logger, debug, warn};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};

use crate::messages::docker::{Answer, Serve};

/// Connections served at a time; dockerd makes one for each call.
const CONNECTIONS: usize = 256;
/// Nobody else connects who would be slower.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Nor for the rest of a call.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// No call is longer, in bytes, also with thousands of ports.
const LONGEST: usize = 4 << 20;
/// After an error such as "too many open files", before the next try.
const PAUSE: Duration = Duration::from_millis(50);
/// What dockerd's plugins answer with.
const KIND: HeaderValue = HeaderValue::from_static("application/vnd.docker.plugins.v1.2+json");

/// The socket.
#[derive(Debug)]
pub(crate) struct Door {
    socket: UnixListener,
    path: PathBuf,
}

impl Door {
    /// Makes the socket. One that is there already is a dead one's: the caller holds the lock of the network
    /// namespace. dockerd takes whatever is in the folder for a plugin, so it appears there complete.
    pub(crate) fn bind(path: &Path) -> Result<Self, String> {
        let fail =
            |doing: &str, e: io::Error| format!("docker_socket: {doing} {}: {e}", path.display());
        let socket = socket_file::listen(path, None).map_err(|e| format!("docker_socket: {e}"))?;
        let socket = socket.set_nonblocking(true).and_then(|()| UnixListener::from_std(socket));
        let socket = socket.map_err(|e| fail("listening at", e))?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// Serves until `stop` is told. A socket that nobody serves would hold dockerd up, so it goes.
    pub(crate) async fn run(
        self,
        docker: Recipient<Serve>,
        log: Logger,
        stop: oneshot::Receiver<()>,
    ) {
        tokio::select! {
            () = accept(&self.socket, docker, &log) => {}
            _ = stop => {}
        }
        let _ = fs::remove_file(&self.path);
    }
}

async fn accept(socket: &UnixListener, docker: Recipient<Serve>, log: &Logger) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match socket.accept().await {
            Ok((stream, _)) => {
                let (docker, log) = (docker.clone(), log.clone());
                actix_rt::spawn(async move {
                    let _place = place;
                    match allowed(&stream) {
                        Ok(peer) => {
                            if let Err(e) = connection(stream, docker, peer).await {
                                debug!(log, "connection"; "error" => %e);
                            }
                        }
                        Err(why) => warn!(log, "refused a connection"; "error" => why),
                    }
                });
            }
            Err(error) => {
                warn!(log, "accepting a connection of dockerd's"; "error" => %error);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Who connected, if they may: the file's mode keeps others out, unless somebody has changed it.
fn allowed(stream: &UnixStream) -> Result<Credentials, String> {
    let peer = peer::credentials(stream.as_fd()).map_err(|e| e.to_string())?;
    access::decide(&peer, None, Asked::Docker).map_err(|e| e.to_string())?;
    Ok(peer)
}

async fn connection(
    stream: UnixStream,
    docker: Recipient<Serve>,
    peer: Credentials,
) -> Result<(), hyper::Error> {
    let service = service_fn(|request| answer(&docker, &peer, request));
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(
    docker: &Recipient<Serve>,
    peer: &Credentials,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::POST {
        return Ok(page(StatusCode::METHOD_NOT_ALLOWED, r#"{"Err":"only POST"}"#.to_owned()));
    }
    let method = request.uri().path().trim_start_matches('/').to_owned();
    let body = Limited::new(request.into_body(), LONGEST).collect();
    let body = match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => body.to_bytes().to_vec(),
        _ => {
            let said = r#"{"Err":"the request is too long, or was not complete in time"}"#;
            return Ok(page(StatusCode::BAD_REQUEST, said.to_owned()));
        }
    };
    Ok(match docker.send(Serve { method, body, uid: peer.uid, pid: peer.pid }).await {
        Ok(Answer::Said(said)) => page(StatusCode::OK, said),
        Ok(Answer::NoSuchMethod) => {
            page(StatusCode::NOT_FOUND, r#"{"Err":"there is no such method"}"#.to_owned())
        }
        Err(_) => {
            let said = r#"{"Err":"a part of the daemon failed"}"#;
            page(StatusCode::INTERNAL_SERVER_ERROR, said.to_owned())
        }
    })
}

fn page(status: StatusCode, said: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(said)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, KIND);
    response
}
