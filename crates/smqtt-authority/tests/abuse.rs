//! The service under abuse: guessing, replaying, lying, stalling. Nothing is issued, nothing breaks, all of it is counted.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod site;

use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rustls::StreamOwned;
use serde_json::{Value, json};
use site::administrator::{Presented, anonymous, connect_from, directory, metric, request, source};
use site::{Reply, Service, Site, csr};
use smqtt_authority::Limiter;
use smqtt_pki::enrolment::ProblemCode;
use smqtt_pki::{CertificateAuthority, CertificateRequest, UnixTime, Validity, tls};

/// The metrics, as an auditor gets them.
fn metrics(auditor: &Presented, service: &Service) -> String {
    let reply = auditor.ask(service, "GET", "/metrics", None);
    assert_eq!(reply.status, 200);
    String::from_utf8(reply.body).unwrap()
}

fn count(text: &str, name: &str) -> u64 {
    metric(text, &format!("smqtt_authority_{name}"))
}

/// Nothing was issued to anybody, nothing failed, and the log is whole.
fn unharmed(site: &Site, text: &str, issued: u64) {
    assert_eq!(count(text, "certificates_issued_total"), issued);
    assert_eq!(count(text, "attribute_keys_issued_total"), issued);
    assert_eq!(count(text, "refused_total{cause=\"internal\"}"), 0);
    for line in text.lines().filter(|line| line.contains("requests_total{")) {
        assert!(!line.contains("status=\"5"), "{line}");
    }
    assert!(
        site.ok(&["audit", "verify"])
            .contains("none changed or missing")
    );
}

fn enrol_from(site: &Site, service: &Service, n: u16, token: &str, csr: &str) -> Reply {
    let body = json!({ "token": token, "csr": csr });
    anonymous(site, service, source(n), "POST", "/v1/enrol", Some(&body))
}

#[test]
fn guessing_tokens_gets_nothing_and_soon_has_to_wait() {
    let site = Site::new();
    let auditor = Presented::admin(&site, "otto", "auditor");
    let open = site.add("sensor-1", "role = sensor");
    let service = site.serve();
    let guesses = 30;
    let mut refused = 0;
    for n in 0..guesses {
        // Well-formed, and nearly right.
        let mut guess = open.clone().into_bytes();
        guess[n % 32] = if guess[n % 32] == b'a' { b'b' } else { b'a' };
        let guess = String::from_utf8(guess).unwrap();
        let reply = enrol_from(&site, &service, 1, &guess, &csr("sensor-1", 1));
        if n < Limiter::BURST as usize {
            reply.refused(ProblemCode::InvalidToken);
        }
        refused += usize::from(reply.status == 429);
        if reply.status == 429 {
            reply.refused(ProblemCode::RateLimited);
            assert!(reply.header("retry-after").is_some());
        }
    }
    let text = metrics(&auditor, &service);
    unharmed(&site, &text, 0);
    let tried = count(&text, "refused_total{cause=\"invalid-token\"}");
    assert_eq!(tried + refused as u64, guesses as u64);
    assert_eq!(
        count(&text, "rate_limited_total{limit=\"failures\"}"),
        refused as u64
    );
    assert_eq!(
        count(&text, "refused_total{cause=\"rate-limited\"}"),
        refused as u64
    );
    // Others are not held up.
    enrol_from(&site, &service, 2, &open, &csr("sensor-1", 1)).granted();
}

#[test]
fn a_used_token_is_worth_nothing_from_however_many_addresses() {
    let site = Site::new();
    let auditor = Presented::admin(&site, "otto", "auditor");
    let token = site.add("sensor-1", "role = sensor");
    let service = site.serve();
    enrol_from(&site, &service, 1, &token, &csr("sensor-1", 1)).granted();
    let tries = 2 * Limiter::BURST as u16;
    let held_back = (0..tries)
        .map(|n| enrol_from(&site, &service, 100 + n, &token, &csr("sensor-1", 2)))
        .filter(|reply| match reply.status {
            429 => {
                reply.refused(ProblemCode::RateLimited);
                true
            }
            _ => {
                reply.refused(ProblemCode::TokenUsed);
                false
            }
        })
        .count() as u64;
    assert!(held_back > 0);
    let text = metrics(&auditor, &service);
    unharmed(&site, &text, 1);
    assert_eq!(
        count(&text, "rate_limited_total{limit=\"token\"}"),
        held_back
    );
    assert_eq!(
        count(&text, "refused_total{cause=\"token-used\"}"),
        u64::from(tries) - held_back
    );
}

#[test]
fn requests_for_another_name_or_without_the_key_cost_the_token_nothing() {
    let site = Site::new();
    let auditor = Presented::admin(&site, "otto", "auditor");
    let token = site.add("sensor-1", "role = sensor");
    site.add("pump-1", "role = pump");
    let service = site.serve();
    for other in ["pump-1", "smqtt-authority", "anna"] {
        enrol_from(&site, &service, 1, &token, &csr(other, 1))
            .refused(ProblemCode::CsrNameMismatch);
    }
    let mut unsigned = csr("sensor-1", 1);
    let middle = unsigned.len() - 60;
    let replacement = if unsigned.as_bytes()[middle] == b'A' {
        "B"
    } else {
        "A"
    };
    unsigned.replace_range(middle..=middle, replacement);
    for bad in [unsigned.as_str(), "", "-----BEGIN CERTIFICATE REQUEST-----"] {
        enrol_from(&site, &service, 1, &token, bad).refused(ProblemCode::MalformedCsr);
    }
    let text = metrics(&auditor, &service);
    unharmed(&site, &text, 0);
    assert_eq!(
        count(&text, "refused_total{cause=\"csr-name-mismatch\"}"),
        3
    );
    assert_eq!(count(&text, "refused_total{cause=\"malformed-csr\"}"), 3);
    enrol_from(&site, &service, 2, &token, &csr("sensor-1", 1)).granted();
}

#[test]
fn bodies_that_are_too_large_or_no_json_are_problems() {
    let site = Site::new();
    let operator = Presented::admin(&site, "anna", "operator");
    let service = site.serve();
    let large = json!({ "name": "a".repeat(40_000) });
    let deep = json!({ "name": "a", "attributes": "x and ".repeat(4000) });
    for (path, body, code) in [
        ("/v1/devices", &large, ProblemCode::BodyTooLarge),
        ("/v1/devices", &deep, ProblemCode::InvalidInput),
        ("/v1/devices", &json!([]), ProblemCode::MalformedRequest),
        (
            "/v1/devices",
            &json!({ "name": 1 }),
            ProblemCode::MalformedRequest,
        ),
        (
            "/v1/devices",
            &json!({ "name": "a", "atributes": "x = y" }),
            ProblemCode::MalformedRequest,
        ),
        (
            "/v1/devices",
            &json!({ "name": "a", "attributes": "" }),
            ProblemCode::InvalidInput,
        ),
        (
            "/v1/devices",
            &json!({ "name": "a", "attributes": "role = x", "uses": 0 }),
            ProblemCode::InvalidInput,
        ),
        (
            "/v1/devices",
            &json!({ "name": "a", "attributes": "role = x", "token_expires": u64::MAX }),
            ProblemCode::InvalidInput,
        ),
        (
            "/v1/epoch/advance",
            &json!({ "overlap": u64::MAX }),
            ProblemCode::InvalidInput,
        ),
        (
            "/v1/devices/none/revoke",
            &json!({ "reason": "because" }),
            ProblemCode::MalformedRequest,
        ),
        ("/v1/devices/none/revoke", &json!({}), ProblemCode::NotFound),
    ] {
        operator
            .ask(&service, "POST", path, Some(body))
            .refused(code);
    }
    let nested = "[".repeat(20_000);
    service
        .post("/v1/enrol", nested.as_bytes())
        .refused(ProblemCode::MalformedRequest);
    let typed =
        request("POST", "/v1/enrol", Some(&json!({}))).replace("application/json", "text/xml");
    service
        .request(&typed)
        .refused(ProblemCode::UnsupportedMediaType);
    for path in ["/", "/v1", "/v1/devices/", "//v1/ca", "/v1/devices/a/b/c"] {
        service.get(path).refused(ProblemCode::NotFound);
    }
    // What is no HTTP gets no more than a refusal, and the head is bounded.
    let long = format!(
        "GET /v1/ca HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "a".repeat(40_000)
    );
    for head in ["\u{0}\u{1}\u{2}\r\n\r\n", long.as_str()] {
        let mut stream = service.connect();
        let _ = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.flush());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    let text = metrics(&operator, &service);
    unharmed(&site, &text, 0);
    for (code, least) in [
        ("body-too-large", 1),
        ("unsupported-media-type", 1),
        ("malformed-request", 5),
        ("invalid-input", 5),
        ("not-found", 6),
    ] {
        let counted = count(&text, &format!("refused_total{{cause=\"{code}\"}}"));
        assert!(counted >= least, "{code}: {counted}");
    }
}

#[test]
fn who_is_refused_while_it_still_sends_is_told_why() {
    let site = Site::new();
    let service = site.serve();
    let config = tls::pinned_client_config(site.fingerprint(), &[]).unwrap();
    let config = std::sync::Arc::new(config);
    for path in ["/v1/devices", "/v1/renew/confirm"] {
        let name = smqtt_pki::ServerName::try_from("127.0.0.1").unwrap();
        let session = rustls::ClientConnection::new(config.clone(), name).unwrap();
        let mut stream = StreamOwned::new(session, connect_from(source(1), service.address));
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
        // Twice on one connection: the answers did not end it.
        for _ in 0..2 {
            stream.write_all(head.as_bytes()).unwrap();
            stream.flush().unwrap();
            // Nothing is answered yet: who waits for it in vain has sent no body.
            stream
                .sock
                .set_read_timeout(Some(Duration::from_millis(300)))
                .unwrap();
            let early = stream.read(&mut [0; 1]).unwrap_err();
            assert!(
                matches!(
                    early.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ),
                "{early}"
            );
            stream
                .sock
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            stream.write_all(b"{}").unwrap();
            stream.flush().unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"}") {
                let mut buffer = [0; 1024];
                let count = stream.read(&mut buffer).unwrap();
                assert!(count > 0, "{}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&buffer[..count]);
            }
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        }
    }
}

#[test]
fn slow_clients_hold_nobody_up_and_are_cut_off() {
    let site = Site::new();
    let auditor = Presented::admin(&site, "otto", "auditor");
    let service = site.serve();
    let tls = |n: u16| {
        let config = tls::pinned_client_config(site.fingerprint(), &[]).unwrap();
        let name = smqtt_pki::ServerName::try_from("127.0.0.1").unwrap();
        let session = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
        StreamOwned::new(session, connect_from(source(n), service.address))
    };
    // Some say nothing at all, some half a head, some half a body.
    let silent: Vec<_> = (0..5)
        .map(|n| connect_from(source(n), service.address))
        .collect();
    let mut heads: Vec<_> = (10..15).map(tls).collect();
    for stream in &mut heads {
        stream
            .write_all(b"GET /v1/ca HTTP/1.1\r\nHost: au")
            .unwrap();
        stream.flush().unwrap();
    }
    let mut bodies: Vec<_> = (20..25).map(tls).collect();
    for stream in &mut bodies {
        stream
            .write_all(b"POST /v1/enrol HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 20\r\n\r\n{\"token\"")
            .unwrap();
        stream.flush().unwrap();
    }
    // Meanwhile others are served.
    let token = site.add("sensor-1", "role = sensor");
    enrol_from(&site, &service, 1, &token, &csr("sensor-1", 1)).granted();

    for stream in &mut bodies {
        Reply::read(stream).refused(ProblemCode::RequestTimeout);
    }
    for stream in &mut heads {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(!rest.starts_with(b"HTTP/1.1 2"));
    }
    for mut stream in silent {
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap_or(0), 0);
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let text = metrics(&auditor, &service);
        let counted = (
            count(&text, "refused_total{cause=\"request-timeout\"}"),
            count(&text, "connections_without_request_total"),
            count(
                &text,
                "connections_refused_total{cause=\"handshake-timeout\"}",
            ),
        );
        if counted == (5, 5, 5) {
            unharmed(&site, &text, 1);
            return;
        }
        assert!(Instant::now() < deadline, "{counted:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn one_address_does_not_take_all_connections() {
    let site = Site::new();
    let auditor = Presented::admin(&site, "otto", "auditor");
    let service = site.serve();
    // More than one address may have; each is open until the handshake's time is over.
    let crowd: Vec<_> = (0..300)
        .map(|_| connect_from(source(7), service.address))
        .collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let text = metrics(&auditor, &service);
        if count(&text, "connections_refused_total{cause=\"connections\"}") >= 44 {
            break;
        }
        assert!(Instant::now() < deadline, "{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(crowd);
}

#[test]
fn who_asks_too_often_has_to_wait() {
    let site = Site::new();
    let auditor = Presented::admin(&site, "otto", "auditor");
    let service = site.serve_with(&["--requests-per-second", "1"]);
    let mut held_back = 0;
    // Ten at once, then one a second: each takes much less than a second.
    for _ in 0..40 {
        let reply = anonymous(&site, &service, source(1), "GET", "/v1/ca", None);
        if reply.status == 429 {
            reply.refused(ProblemCode::RateLimited);
            assert_eq!(reply.header("retry-after"), Some("1"));
            held_back += 1;
        }
    }
    assert!(held_back > 0);
    let text = metrics(&auditor, &service);
    assert_eq!(
        count(&text, "rate_limited_total{limit=\"requests\"}"),
        held_back
    );
    unharmed(&site, &text, 0);
}

#[test]
fn expired_and_foreign_certificates_open_nothing() {
    let site = Site::new();
    let auditor = Presented::admin(&site, "otto", "auditor");
    let token = site.add("sensor-1", "role = sensor");
    let service = site.serve();
    let granted = service.enrol(&token, &csr("sensor-1", 1)).granted();
    let (_, anchor) = granted.certificates().unwrap();

    let read = |name: &str| std::fs::read_to_string(site.path().join(name)).unwrap();
    let ca = CertificateAuthority::load(&read("ca.key"), read("ca.crt").as_bytes()).unwrap();
    let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let now = UnixTime::now().as_secs();
    let mut rng = StdRng::seed_from_u64(3);
    let csr = CertificateRequest::from_pem(&csr("otto", 9)).unwrap();
    let begin = ca.trust_anchor().validity().not_before().as_secs();
    let past = Validity::new(at(begin), at(now - 60)).unwrap();
    let name = "otto".parse().unwrap();
    let expired = ca.issue_admin(&csr, &name, past, &mut rng).unwrap();
    let expired = Presented::with(expired.chain, 9, anchor.root().clone());
    expired
        .ask(&service, "GET", "/v1/devices", None)
        .refused(ProblemCode::CertificateExpired);
    // A valid one that the register does not know: its key is right, its serial number is not.
    let day = Validity::starting(at(now), Duration::from_secs(86_400)).unwrap();
    let forged = ca.issue_admin(&csr, &name, day, &mut rng).unwrap();
    Presented::with(forged.chain, 9, anchor.root().clone())
        .ask(&service, "GET", "/v1/devices", None)
        .refused(ProblemCode::CertificateRevoked);
    // A server's is for another use, another authority's is nobody's: TLS refuses both.
    let (server, server_key) = ca
        .issue_server(
            &[smqtt_pki::ServerName::try_from("localhost").unwrap()],
            day,
            &mut rng,
        )
        .unwrap();
    let other = CertificateAuthority::create("other", day, &mut rng).unwrap();
    let foreign = other.issue_admin(&csr, &name, day, &mut rng).unwrap();
    let root = anchor.root().clone();
    let foreign = Presented::with(foreign.chain, 9, root.clone());
    let server = Presented::of(server.chain, &server_key, root);
    for presented in [server, foreign] {
        assert!(presented.handshake(&service).is_err());
    }
    let text = metrics(&auditor, &service);
    unharmed(&site, &text, 1);
    assert_eq!(
        count(&text, "refused_total{cause=\"certificate-expired\"}"),
        1
    );
    assert_eq!(
        count(&text, "refused_total{cause=\"certificate-revoked\"}"),
        1
    );
    assert_eq!(
        count(
            &text,
            "connections_refused_total{cause=\"client-certificate\"}"
        ),
        2
    );
}

#[test]
fn names_with_the_letters_of_sql_are_names_or_nothing() {
    let site = Site::new();
    let operator = Presented::admin(&site, "anna", "operator");
    site.add("sensor-1", "role = sensor");
    let service = site.serve();
    let before = site.ok(&["device", "list", "--json"]);
    for evil in [
        "x'; DROP TABLE device; --",
        "' OR '1'='1",
        "\" OR 1=1 --",
        "sensor-1' --",
        "sensor-1\u{0}",
        "%",
        "_",
        "$1",
        "?1",
        "\\'; SELECT 1",
        "x') UNION SELECT digest FROM token --",
    ] {
        let encoded: String = evil.bytes().map(|b| format!("%{b:02X}")).collect();
        let add = json!({ "name": evil, "attributes": "role = sensor" });
        operator
            .ask(&service, "POST", "/v1/devices", Some(&add))
            .refused(ProblemCode::InvalidInput);
        let add = json!({ "name": "new", "profile": evil });
        let code = match evil.contains('\0') {
            true => ProblemCode::InvalidInput,
            false => ProblemCode::NotFound,
        };
        operator
            .ask(&service, "POST", "/v1/devices", Some(&add))
            .refused(code);
        for (method, path) in [
            ("GET", format!("/v1/devices/{encoded}")),
            ("DELETE", format!("/v1/devices/{encoded}")),
            ("POST", format!("/v1/devices/{encoded}/revoke")),
            ("DELETE", format!("/v1/profiles/{encoded}")),
        ] {
            operator
                .ask(&service, method, &path, None)
                .refused(ProblemCode::NotFound);
        }
        let put = json!({ "attributes": "role = sensor" });
        let reply = operator.ask(
            &service,
            "PUT",
            &format!("/v1/profiles/{encoded}"),
            Some(&put),
        );
        if evil == "_" {
            assert_eq!(reply.status, 200);
            let gone = operator.ask(&service, "DELETE", "/v1/profiles/_", None);
            assert_eq!(gone.status, 204);
        } else {
            reply.refused(match code {
                // A path with a NUL names nothing.
                ProblemCode::InvalidInput => ProblemCode::NotFound,
                _ => ProblemCode::InvalidInput,
            });
        }
        for filter in ["prefix", "profile"] {
            let path = format!("/v1/devices?{filter}={encoded}");
            let reply = operator.ask(&service, "GET", &path, None);
            let page: Value = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!(page["devices"], json!([]), "{path}");
        }
        for path in [
            "/v1/devices?where",
            "/v1/devices?after",
            "/v1/policy/who?policy",
        ] {
            // An underscore is a flag's name.
            if evil == "_" && !path.ends_with("after") {
                continue;
            }
            operator
                .ask(&service, "GET", &format!("{path}={encoded}"), None)
                .refused(ProblemCode::InvalidInput);
        }
        enrol_from(&site, &service, 1000, evil, &csr("sensor-1", 1));
    }
    assert_eq!(site.ok(&["device", "list", "--json"]), before);
    unharmed(&site, &metrics(&operator, &service), 0);
}

/// Schemathesis, where scripts/test.sh has installed it.
mod with_schemathesis {
    use super::*;

    /// Rounds at most: each takes some seconds, and a busy machine gets through few requests in them.
    const ROUNDS: u32 = 8;

    fn run(site: &Site, service: &Service, name: Option<&str>, seconds: u32, round: u32) -> String {
        let program = match std::env::var_os("SMQTT_TEST_PYTHON") {
            Some(python) => std::path::Path::new(&python).with_file_name("schemathesis"),
            None => "schemathesis".into(),
        };
        let address = format!("https://localhost:{}", service.address.port());
        let mut command = Command::new(program);
        command
            .arg("run")
            .arg(format!("{address}/v1/openapi.json"))
            .args(["--seed", &(20_261_127 + round).to_string(), "--no-color", "--warnings", "off", "--max-examples", "8"])
            .args(["--max-time", &seconds.to_string(), "--request-timeout", "20"])
            .args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"])
            .arg("--tls-verify")
            .arg(site.path().join("ca.crt"))
            .current_dir(site.dir.path());
        if let Some(name) = name {
            let of = directory(site, name);
            command
                .arg("--request-cert")
                .arg(of.join("client.crt"))
                .arg("--request-cert-key")
                .arg(of.join("client.key"));
        }
        let output = command
            .output()
            .expect("schemathesis can not be run: see scripts/test.sh");
        let told = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        told
    }

    fn answered(text: &str) -> u64 {
        text.lines()
            .filter(|line| line.starts_with("smqtt_authority_requests_total{"))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    #[test]
    fn the_api_keeps_to_its_document_whatever_is_asked() {
        let site = Site::new();
        let auditor = Presented::admin(&site, "otto", "auditor");
        Presented::admin(&site, "anna", "operator");
        site.add("sensor-1", "role = sensor");
        let service = site.serve_with(&["--requests-per-second", "0"]);
        let before = site.ok(&["device", "list", "--json"]);

        // Strangers, and an auditor: nothing changes.
        let mut rounds = 0..ROUNDS;
        let seen = loop {
            let round = rounds.next().expect("far too few requests in all rounds");
            run(&site, &service, None, 5, round);
            run(&site, &service, Some("otto"), 8, round);
            let text = metrics(&auditor, &service);
            unharmed(&site, &text, 0);
            let causes = ["certificate-required", "forbidden", "rate-limited"];
            let all_counted = causes
                .iter()
                .all(|cause| count(&text, &format!("refused_total{{cause=\"{cause}\"}}")) > 0);
            if all_counted && answered(&text) > 60 {
                break answered(&text);
            }
        };
        assert_eq!(site.ok(&["device", "list", "--json"]), before);

        // An operator may register and take back, but nobody enrols: certificates are given to tokens only.
        let mut rounds = 0..ROUNDS;
        loop {
            let round = rounds.next().expect("far too few requests in all rounds");
            run(&site, &service, Some("anna"), 12, round);
            let text = metrics(&auditor, &service);
            unharmed(&site, &text, 0);
            if answered(&text) > seen + 30 {
                break;
            }
        }
    }
}
