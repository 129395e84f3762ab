use std::sync::Arc;

use roadstead_certs::{Reloaded, Tls};
use rustls::client::{Resumption, Tls12Resumption};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};

use crate::people::{Authority, Client, connect};
use crate::stage::Stage;

fn is_resumed(client: &Arc<ClientConfig>, tls: &Tls) -> bool {
    let connected = connect(client, &tls.config(), "one.example").unwrap();
    assert_eq!(connected.client.handshake_kind(), connected.server.handshake_kind());
    connected.client.handshake_kind() == Some(HandshakeKind::Resumed)
}

#[test]
fn a_second_connection_resumes_the_session_of_the_first() {
    let authority = Authority::new("ca");
    let tls = Stage::new(&[&authority.issue(&["one.example"])]).load();
    for version in [&TLS12, &TLS13] {
        let client = Client::trusting(&[&authority]).speaking(version).config();
        assert!(!is_resumed(&client, &tls));
        assert!(is_resumed(&client, &tls));
    }
}

#[test]
fn a_client_without_tickets_resumes_too_but_not_after_a_change_of_authorities() {
    let (authority, clients) = (Authority::new("ca"), Authority::new("clients"));
    let stage = Stage::new(&[&authority.issue(&["one.example"])]).asking(&clients, false);
    let tls = stage.load();
    let mut client = ClientConfig::clone(&Client::trusting(&[&authority]).speaking(&TLS12).config());
    client.resumption = Resumption::in_memory_sessions(8).tls12_resumption(Tls12Resumption::SessionIdOnly);
    let client = Arc::new(client);
    assert!(!is_resumed(&client, &tls));
    assert!(is_resumed(&client, &tls));
    stage.replace(0, &authority.issue(&["one.example"]));
    tls.reload().unwrap();
    assert!(is_resumed(&client, &tls));
    stage.write("clients.pem", &Authority::new("others").pem());
    tls.reload().unwrap();
    assert!(!is_resumed(&client, &tls));
}

#[test]
fn sessions_are_in_tickets_whose_keys_change() {
    let authority = Authority::new("ca");
    let config = Stage::new(&[&authority.issue(&["one.example"])]).load().config();
    assert!(config.ticketer.enabled());
    assert_eq!(config.ticketer.lifetime(), 12 * 60 * 60);
    assert_eq!(config.max_early_data_size, 0);
}

#[test]
fn a_renewed_certificate_keeps_the_sessions() {
    let authority = Authority::new("ca");
    let stage = Stage::new(&[&authority.issue(&["one.example"])]);
    let tls = stage.load();
    let client = Client::trusting(&[&authority]).config();
    assert!(!is_resumed(&client, &tls));
    stage.replace(0, &authority.issue(&["one.example"]));
    assert!(matches!(tls.reload().unwrap(), Reloaded::Changed { clients: false, .. }));
    assert!(is_resumed(&client, &tls));
}

#[test]
fn no_session_outlives_the_authorities_or_the_revocation_lists_that_it_began_under() {
    let (authority, clients) = (Authority::new("ca"), Authority::new("clients"));
    for version in [&TLS12, &TLS13] {
        let stage = Stage::new(&[&authority.issue(&["one.example"])])
            .asking(&clients, true)
            .revoking(&clients.revokes(&[], (2040, 1, 1)));
        let tls = stage.load();
        let own = clients.client(7, &["spiffe://example.org/web"]);
        let client = Client::trusting(&[&authority]).speaking(version).showing(&own).config();
        assert!(!is_resumed(&client, &tls));
        assert!(is_resumed(&client, &tls));

        stage.write("clients.crl", &clients.revokes(&[9], (2040, 1, 1)));
        assert_eq!(tls.reload().unwrap(), Reloaded::Changed { certificates: vec![], clients: true });
        assert!(!is_resumed(&client, &tls));
        assert!(is_resumed(&client, &tls));

        stage.write("clients.crl", &clients.revokes(&[7], (2040, 1, 1)));
        tls.reload().unwrap();
        connect(&client, &tls.config(), "one.example").unwrap_err();

        let others = Authority::new("others");
        stage.write("clients.crl", &format!("{}{}", clients.revokes(&[], (2040, 1, 1)), others.revokes(&[], (2040, 1, 1))));
        tls.reload().unwrap();
        assert!(!is_resumed(&client, &tls));
        stage.write("clients.pem", &others.pem());
        tls.reload().unwrap();
        connect(&client, &tls.config(), "one.example").unwrap_err();
    }
}

#[test]
fn a_resumed_session_still_says_who_the_client_is() {
    let (authority, clients) = (Authority::new("ca"), Authority::new("clients"));
    let tls = Stage::new(&[&authority.issue(&["one.example"])]).asking(&clients, true).load();
    let own = clients.client(7, &["spiffe://example.org/web"]);
    let client = Client::trusting(&[&authority]).showing(&own).config();
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let connected = connect(&client, &tls.config(), "one.example").unwrap();
        assert_eq!(connected.server.handshake_kind(), Some(kind));
        let identity = roadstead_certs::identity(connected.server.peer_certificates().unwrap()).unwrap();
        assert_eq!(identity.uris, ["spiffe://example.org/web"]);
    }
}
