//! The socket that dockerd finds by its place and name (`/run/docker/plugins/NAME.sock`): HTTP/1.1, one
//! request a connection. Only root may connect, and dockerd is root.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
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
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(|e| fail("making the directory of", e))?;
        }
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                let why = io::Error::new(io::ErrorKind::AlreadyExists, "it is not a socket");
                return Err(fail("replacing", why));
            }
            _ => {}
        }
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".new");
        let unfinished = PathBuf::from(unfinished);
        let _ = fs::remove_file(&unfinished);
        let socket = UnixListener::bind(&unfinished).map_err(|e| fail("binding", e))?;
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o600))
            .map_err(|e| fail("setting the mode of", e))?;
        fs::rename(&unfinished, path).map_err(|e| fail("naming", e))?;
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
                    if let Err(e) = connection(stream, docker).await {
                        debug!(log, "connection"; "error" => %e);
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

async fn connection(stream: UnixStream, docker: Recipient<Serve>) -> Result<(), hyper::Error> {
    let service = service_fn(|request| answer(&docker, request));
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(
    docker: &Recipient<Serve>,
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
    Ok(match docker.send(Serve { method, body }).await {
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
