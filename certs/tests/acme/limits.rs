use roadstead_certs::acme::{Acme, Error, Parts, Settings};
use roadstead_certs::{self as certs, Tls};

use std::sync::Arc;

use crate::server::Server;
use crate::store::{Forward, Store};

struct Nowhere;

#[async_trait::async_trait]
impl certs::acme::Http for Nowhere {
    async fn exchange(&self, _: http::Request<bytes::Bytes>) -> Result<http::Response<bytes::Bytes>, certs::acme::HttpError> {
        Err(certs::acme::HttpError("nobody is there".into()))
    }
}

fn refusal(change: impl FnOnce(&mut Settings)) -> Error {
    let mut settings = Settings::new(vec!["a.example.test".to_owned()]);
    change(&mut settings);
    let tls = Tls::with_acme(&certs::Settings::default(), &["a.example.test".to_owned()]).unwrap();
    let parts = Parts {
        tls: Arc::new(tls),
        records: Arc::new(Store::default()),
        http: Arc::new(Server::new(Nowhere)),
        clock: Arc::new(Forward::new()),
    };
    Acme::new(&settings, parts).unwrap_err()
}

#[test]
fn settings_that_cannot_be_used_are_refused_before_anything_is_asked() {
    let refused = [
        (refusal(|settings| settings.domains.clear()), "acme.domains"),
        (refusal(|settings| settings.domains.push("*.example.test".to_owned())), "wildcards"),
        (refusal(|settings| settings.challenges.clear()), "acme.challenges"),
        (refusal(|settings| settings.contact.push("nobody".to_owned())), "acme.contact"),
        (refusal(|settings| "acme.example".clone_into(&mut settings.directory)), "acme.directory"),
    ];
    for (error, part) in refused {
        assert!(error.to_string().contains(part), "{error}");
    }
}
