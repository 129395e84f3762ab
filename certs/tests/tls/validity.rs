use std::time::{Duration, SystemTime};

use rcgen::{PKCS_ECDSA_P256_SHA256, date_time_ymd};
use roadstead_certs::{Facts, Origin, Problem};

use crate::people::Authority;
use crate::stage::Stage;

const DAY: Duration = Duration::from_hours(24);
/// 2030-01-01 and 2031-01-01.
const FROM: u64 = 1_893_456_000;
const UNTIL: u64 = 1_924_992_000;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn stage(names: &[&str]) -> Stage {
    let authority = Authority::new("The Authority");
    let issued = authority.issue_with(names, &PKCS_ECDSA_P256_SHA256, |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2030, 1, 1), date_time_ymd(2031, 1, 1));
    });
    Stage::new(&[&issued])
}

#[test]
fn each_certificate_is_told_with_its_names_its_time_and_its_issuer() {
    let stage = stage(&["One.example", "*.two.example", "10.0.0.1", "2001:db8::1"]);
    let expected = Facts {
        names: ["one.example", "*.two.example", "10.0.0.1", "2001:db8::1"].map(str::to_owned).to_vec(),
        not_before: at(FROM),
        not_after: at(UNTIL),
        issuer: "The Authority".to_owned(),
        path: stage.path("0.crt"),
        origin: Origin::File,
    };
    assert_eq!(stage.load().certificates(), [expected]);
}

#[test]
fn a_certificate_is_a_problem_before_its_time_near_its_end_and_after_it() {
    let stage = stage(&["one.example"]);
    let tls = stage.load();
    let path = stage.path("0.crt");
    let problems = |seconds| tls.problems(at(seconds), 14 * DAY);
    assert_eq!(problems(FROM - 1), [Problem::NotYetValid { path: path.clone(), from: at(FROM) }]);
    assert_eq!(problems(FROM), []);
    assert_eq!(problems(UNTIL - 14 * DAY.as_secs()), []);
    assert_eq!(problems(UNTIL - 14 * DAY.as_secs() + 1), [Problem::ExpiresSoon { path: path.clone(), at: at(UNTIL) }]);
    assert_eq!(problems(UNTIL), [Problem::ExpiresSoon { path: path.clone(), at: at(UNTIL) }]);
    assert_eq!(problems(UNTIL + 1), [Problem::Expired { path: path.clone(), at: at(UNTIL) }]);
    let text = problems(UNTIL + 1)[0].to_string();
    assert!(text.contains("0.crt") && text.contains("2031") && text.contains("new one"), "{text}");
}

#[test]
fn a_certificate_without_names_is_a_problem() {
    let stage = stage(&[]);
    let problems = stage.load().problems(at(FROM), DAY);
    assert_eq!(problems, [Problem::Nameless { path: stage.path("0.crt") }]);
}

#[test]
fn a_revocation_list_that_should_have_been_replaced_is_a_problem() {
    let clients = Authority::new("clients");
    let stage = stage(&["one.example"]).asking(&clients, false);
    let lists = clients.revokes(&[], (2040, 1, 1)) + &clients.revokes(&[], (2030, 6, 1));
    let stage = stage.revoking(&lists);
    let tls = stage.load();
    // 2030-06-01.
    let due = at(1_906_502_400);
    assert_eq!(tls.problems(due, DAY), []);
    let problems = tls.problems(due + Duration::from_secs(1), DAY);
    assert_eq!(problems, [Problem::OutdatedRevocations { path: stage.path("clients.crl"), at: due }]);
}
