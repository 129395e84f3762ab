//! HTTP/1.1 and HTTP/2, plain and encrypted.

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use roadstead_server::{BindError, Body, Limits, RequestBody, Server};
use telemetry::Metrics;

use crate::harness::{Tls, get, get2, http1_over, http2_over, limits, read, start, start_with};

/// Says what the server knew of the request.
async fn describe(request: Request<RequestBody>) -> Response<Body> {
    let peer = request.body().peer().unwrap();
    assert!(peer.addr().ip().is_loopback());
    Response::new(Body::full(format!("{:?} tls={}", request.version(), peer.is_tls())))
}

async fn echo(request: Request<RequestBody>) -> Response<Body> {
    Response::new(Body::full(request.into_body().collect().await.unwrap().to_bytes()))
}

#[tokio::test]
async fn two_requests_share_a_connection_of_http1() {
    let server = start(limits(), describe).await;
    let mut client = server.http1().await;
    for _ in 0..2 {
        client.ready().await.unwrap();
        let response = client.send_request(get("/")).await.unwrap();
        assert_eq!(response.version(), Version::HTTP_11);
        assert_eq!(response.headers()["content-length"], "18");
        assert_eq!(read(response).await.unwrap(), "HTTP/1.1 tls=false");
    }
    server.has_connections(1).await;
}

#[tokio::test]
async fn http2_is_known_by_its_preface() {
    let server = start(limits(), describe).await;
    let mut client = server.http2().await;
    let response = client.send_request(get2("/")).await.unwrap();
    assert_eq!(response.headers()["content-length"], "18");
    assert_eq!(read(response).await.unwrap(), "HTTP/2.0 tls=false");
}

#[tokio::test]
async fn an_answer_to_head_has_a_length_and_no_body() {
    let server = start(limits(), describe).await;
    let head = |address| Request::head(address).header("host", "localhost").body(Full::default()).unwrap();
    let answers = [
        server.http1().await.send_request(head("/")).await.unwrap(),
        server.http2().await.send_request(head("http://localhost/")).await.unwrap(),
    ];
    for response in answers {
        assert_eq!(response.headers()["content-length"], "18");
        assert_eq!(read(response).await.unwrap(), "");
    }
    assert!(server.metrics.encode().contains("roadstead_http_sent_bytes_total 0\n"), "{}", server.metrics.encode());
}

#[tokio::test]
async fn under_tls_the_handshake_chooses_the_protocol() {
    let tls = Tls::new();
    let server = start_with(limits(), Some(tls.server()), describe).await;
    let mut client = http2_over(tls.connect(&server, &["h2", "http/1.1"]).await).await;
    assert_eq!(read(client.send_request(get2("/")).await.unwrap()).await.unwrap(), "HTTP/2.0 tls=true");
    for alpn in [&["http/1.1"][..], &[]] {
        let mut client = http1_over(tls.connect(&server, alpn).await).await;
        assert_eq!(read(client.send_request(get("/")).await.unwrap()).await.unwrap(), "HTTP/1.1 tls=true");
    }
}

#[tokio::test]
async fn bodies_go_both_ways_whole_and_are_counted() {
    let server = start(limits(), echo).await;
    let sent = Bytes::from(vec![7; 3 << 20]);
    let request = |address| Request::post(address).header("host", "localhost").body(Full::new(sent.clone())).unwrap();
    let mut http1 = server.http1().await;
    assert!(read(http1.send_request(request("/")).await.unwrap()).await.unwrap() == sent);
    let mut http2 = server.http2().await;
    assert!(read(http2.send_request(request("http://localhost/")).await.unwrap()).await.unwrap() == sent);
    let text = server.metrics.encode();
    assert!(text.contains("roadstead_http_received_bytes_total 6291456\n"), "{text}");
    assert!(text.contains("roadstead_http_sent_bytes_total 6291456\n"), "{text}");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_answered_with_431() {
    let server = start(limits(), describe).await;
    let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(40 * 1024));
    let answer = server.exchange(&head).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let many = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(200));
    let answer = server.exchange(&many).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn what_is_not_http_is_answered_with_400() {
    let server = start(limits(), describe).await;
    let answer = server.exchange("\u{16}\u{3}\u{1} this looks like TLS\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn a_panic_of_the_service_ends_one_request_and_no_more() {
    let server = start(limits(), |request: Request<RequestBody>| async move {
        assert!(request.uri().path() != "/panic", "on purpose");
        Response::new(Body::empty())
    })
    .await;
    let mut http1 = server.http1().await;
    assert!(http1.send_request(get("/panic")).await.is_err());
    let mut http2 = server.http2().await;
    assert!(http2.send_request(get2("/panic")).await.is_err());
    assert_eq!(http2.send_request(get2("/")).await.unwrap().status(), StatusCode::OK);
    assert_eq!(server.http1().await.send_request(get("/")).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_listen_address_that_cannot_be_had_is_explained() {
    let bind =
        |listen: String| async move { Server::bind(&listen, None, Limits::default(), Metrics::new()).await.err().unwrap() };
    let server = start(limits(), describe).await;
    let error = bind(server.addr.to_string()).await;
    assert!(matches!(error, BindError::InUse { .. }));
    assert!(error.to_string().contains(&server.addr.to_string()) && error.to_string().contains("server.listen"), "{error}");
    for listen in ["", "5000", "127.0.0.1", "127.0.0.1:99999", "no such host:5000"] {
        assert!(matches!(bind(listen.to_owned()).await, BindError::NotAnAddress { .. }), "{listen}");
    }
    // An address for documentation, which no machine has. [RFC 5737]
    assert!(matches!(bind("192.0.2.1:5000".to_owned()).await, BindError::NotHere { .. }));
}
