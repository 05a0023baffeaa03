//! The daemon over HTTP: `/metrics` for Prometheus, `/healthz` (is it alive?) and `/readyz` (would an
//! ADD succeed?) for whoever supervises it. Read only, and nothing secret.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use actix::Recipient;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use slog::{Logger, debug, warn};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::board::{Board, Phase};
use crate::messages::metrics::{Health, Render};

/// Connections served at a time. A scraper needs one; the others are for those who hold one and say
/// nothing.
const CONNECTIONS: usize = 512;
/// A client that takes longer to say what it wants is hung up on.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);

/// What the pages are made of.
#[derive(Debug)]
pub(crate) struct Pages {
    pub(crate) board: watch::Receiver<Board>,
    /// None if metrics are switched off.
    pub(crate) render: Option<Recipient<Render>>,
    pub(crate) health: Recipient<Health>,
    pub(crate) log: Logger,
}

/// Listens. A port that is taken is an error at start, not a surprise at the first scrape.
pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until the daemon ends.
pub(crate) async fn run(listener: TcpListener, pages: Rc<Pages>) {
    let places = std::sync::Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                warn!(pages.log, "accepting an HTTP connection"; "error" => %e);
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let pages = pages.clone();
        actix_rt::spawn(async move {
            let _place = place;
            let service = service_fn(|request| answer(&pages, request));
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(e) = served {
                debug!(pages.log, "HTTP connection"; "error" => %e);
            }
        });
    }
}

async fn answer(
    pages: &Pages,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::GET {
        return Ok(page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_owned()));
    }
    Ok(match request.uri().path() {
        "/metrics" => metrics(pages).await,
        "/healthz" => health(pages).await,
        "/readyz" => ready(pages),
        _ => page(StatusCode::NOT_FOUND, "text/plain", "/metrics /healthz /readyz\n".to_owned()),
    })
}

async fn metrics(pages: &Pages) -> Response<Full<Bytes>> {
    let Some(render) = &pages.render else {
        return page(StatusCode::NOT_FOUND, "text/plain", "metrics_enabled is false\n".to_owned());
    };
    match render.send(Render).await {
        Ok(text) => page(StatusCode::OK, "text/plain; version=0.0.4", text),
        Err(e) => page(StatusCode::SERVICE_UNAVAILABLE, "text/plain", format!("{e}\n")),
    }
}

async fn health(pages: &Pages) -> Response<Full<Bytes>> {
    let stuck = match pages.health.send(Health).await {
        Ok(stuck) => stuck,
        Err(_) => vec!["metrics"],
    };
    let status = if stuck.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    page(status, "application/json", json!({ "stuck": stuck }).to_string())
}

fn ready(pages: &Pages) -> Response<Full<Bytes>> {
    let board = pages.board.borrow();
    let ready = board.phase == Phase::Open && board.reasons().is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "ready": ready,
        "reasons": board.reasons(),
        "problems": board.problems,
        "policy_problems": board.policy_problems,
    });
    page(status, "application/json", body.to_string())
}

fn page(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}
