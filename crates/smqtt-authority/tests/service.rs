//! The service under bad input, bad peers, signals and crashes.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod site;

use std::io::{Read, Write};
use std::process::Command;

use site::{Site, connect, csr};
use smqtt_pki::Fingerprint;
use smqtt_pki::enrolment::{EnrolRequest, ProblemCode};
use smqtt_pki::tls::{pin_mismatch, pinned_client_config, tls_error};

#[test]
fn bodies_that_are_no_request_are_refused() {
    let site = Site::new();
    let service = site.serve();
    for body in [
        "",
        "{",
        "[]",
        "null",
        r#"{"token":1,"csr":""}"#,
        r#"{"token":"x"}"#,
        "\u{0}\u{ff}",
    ] {
        let problem = service
            .post("/v1/enrol", body.as_bytes())
            .refused(ProblemCode::MalformedRequest);
        assert!(problem.detail.unwrap().contains("\"token\" and \"csr\""));
    }
}

#[test]
fn a_body_that_is_too_large_is_refused_however_it_comes() {
    let site = Site::new();
    let service = site.serve();
    let large = vec![b' '; EnrolRequest::MAX_LEN + 1];
    service
        .post("/v1/enrol", &large)
        .refused(ProblemCode::BodyTooLarge);

    let mut chunked = String::from(
        "POST /v1/enrol HTTP/1.1\r\nHost: authority\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    for _ in 0..EnrolRequest::MAX_LEN / 1024 + 1 {
        chunked.push_str(&format!("400\r\n{}\r\n", " ".repeat(1024)));
    }
    service.request(&chunked).refused(ProblemCode::BodyTooLarge);

    // The largest that is read is read to its end.
    let whole = vec![b' '; EnrolRequest::MAX_LEN];
    service
        .post("/v1/enrol", &whole)
        .refused(ProblemCode::MalformedRequest);
}

#[test]
fn unknown_paths_and_methods_are_problems_too() {
    let site = Site::new();
    let service = site.serve();
    service.get("/v1/nothing").refused(ProblemCode::NotFound);
    service
        .get("/v1/enrol")
        .refused(ProblemCode::MethodNotAllowed);
    service
        .post("/v1/ca", b"")
        .refused(ProblemCode::MethodNotAllowed);
}

#[test]
fn who_guesses_too_often_has_to_wait() {
    let site = Site::new();
    let service = site.serve();
    for _ in 0..smqtt_authority::Limiter::BURST {
        service
            .enrol("guess", "")
            .refused(ProblemCode::InvalidToken);
    }
    let reply = service.enrol("guess", "");
    reply.refused(ProblemCode::RateLimited);
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=6).contains(&wait), "{wait}");
    // Who is held back can still ask what everybody may know.
    assert_eq!(service.get("/v1/ca").status, 200);
}

#[test]
fn another_fingerprint_than_the_authoritys_is_noticed_before_anything_is_sent() {
    let site = Site::new();
    let service = site.serve();
    let wrong = Fingerprint::of(b"something else");
    let mut stream = connect(
        service.address,
        pinned_client_config(wrong, &[]).unwrap(),
        "127.0.0.1",
    );
    let error = stream
        .write_all(b"x")
        .and_then(|()| stream.flush())
        .unwrap_err();
    let mismatch = pin_mismatch(&error).unwrap();
    assert_eq!(
        (mismatch.expected, mismatch.presented),
        (wrong, site.fingerprint())
    );
}

#[test]
fn the_service_is_known_by_the_hosts_it_was_given() {
    let site = Site::nowhere();
    site.ok(&[
        "init",
        "--host",
        "ca.example.org",
        "--host",
        "[2001:db8::1]",
    ]);
    let service = site.serve_with(&["--host", "second.example.org"]);
    let pin = site.fingerprint();
    let known = [
        "localhost",
        "127.0.0.1",
        "::1",
        "ca.example.org",
        "2001:db8::1",
        "second.example.org",
    ];
    for (name, good) in known
        .map(|name| (name, true))
        .into_iter()
        .chain([("third.example.org", false)])
    {
        let mut stream = connect(
            service.address,
            pinned_client_config(pin, &[]).unwrap(),
            name,
        );
        let outcome = stream
            .write_all(b"GET /healthz HTTP/1.0\r\n\r\n")
            .and_then(|()| stream.flush());
        assert_eq!(outcome.is_ok(), good, "{name}");
        if let Err(error) = outcome {
            assert!(tls_error(&error).is_some() && pin_mismatch(&error).is_none());
        }
    }
    // What devices are told is the first of them.
    let added = site.run(&[
        "device",
        "add",
        "sensor-17",
        "--attributes",
        "role = sensor",
    ]);
    let told = String::from_utf8(added.stderr).unwrap();
    let url = format!(
        "--authority https://ca.example.org:{} ",
        service.address.port()
    );
    assert!(told.contains(&url), "{told}");
}

#[test]
fn tls_1_2_is_refused_and_1_3_is_spoken_with_openssl() {
    let site = Site::new();
    let service = site.serve();
    let client = |version: &str| {
        Command::new("openssl")
            .args([
                "s_client",
                "-connect",
                &service.address.to_string(),
                version,
                "-verify_return_error",
            ])
            .arg("-CAfile")
            .arg(site.path().join("ca.crt"))
            .stdin(std::process::Stdio::null())
            .output()
            .expect("openssl can not be run: install it, or leave this test out")
    };
    let spoken = client("-tls1_3");
    assert!(
        spoken.status.success(),
        "{}",
        String::from_utf8_lossy(&spoken.stderr)
    );
    assert!(String::from_utf8_lossy(&spoken.stdout).contains("Verify return code: 0 (ok)"));
    assert!(!client("-tls1_2").status.success());
}

#[test]
fn a_signal_to_stop_is_obeyed_with_success() {
    for signal in ["TERM", "INT"] {
        let site = Site::new();
        let service = site.serve();
        let mut idle = service.connect();
        idle.conn.complete_io(&mut idle.sock).unwrap();
        service.signal(signal);
        assert_eq!(service.wait().code(), Some(0), "{signal}");
    }
}

#[test]
fn a_request_that_does_not_end_does_not_hold_up_a_stop() {
    let site = Site::new();
    let service = site.serve();
    let mut stream = service.connect();
    stream
        .write_all(b"POST /v1/enrol HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx")
        .unwrap();
    stream.flush().unwrap();
    service.signal("TERM");
    assert_eq!(service.wait().code(), Some(0));
}

#[test]
fn what_was_answered_survives_a_crash() {
    let site = Site::new();
    let (used, open) = (
        site.add("sensor-17", "role = sensor"),
        site.add("sensor-18", "role = sensor"),
    );
    let service = site.serve();
    let granted = service.enrol(&used, &csr("sensor-17", 1)).granted();
    service.signal("KILL");
    assert_eq!(service.wait().code(), None);

    assert_eq!(site.device("sensor-17")["state"], "enrolled");
    let service = site.serve_with(&[]);
    service
        .enrol(&used, &csr("sensor-17", 2))
        .refused(ProblemCode::TokenUsed);
    let second = service.enrol(&open, &csr("sensor-18", 3)).granted();
    // The broker's address is remembered from the start before.
    assert_eq!(second.broker, granted.broker);
    assert!(
        site.ok(&["audit", "verify"])
            .contains("none changed or missing")
    );
}

#[test]
fn a_crash_in_the_midst_of_enrolments_leaves_each_done_or_not_begun() {
    let site = Site::new();
    let tokens: Vec<_> = (0..8)
        .map(|n| site.add(&format!("device-{n}"), "role = sensor"))
        .collect();
    let service = site.serve();
    let answered = std::sync::atomic::AtomicUsize::new(0);
    let outcomes: Vec<Option<u16>> = std::thread::scope(|scope| {
        let enrolments: Vec<_> = tokens
            .iter()
            .enumerate()
            .map(|(n, token)| {
                let (service, answered) = (&service, &answered);
                scope.spawn(move || {
                    let csr = csr(&format!("device-{n}"), n as u64);
                    let reply = service.try_enrol(token, &csr).ok()?;
                    answered.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    Some(reply.status)
                })
            })
            .collect();
        while answered.load(std::sync::atomic::Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
        service.signal("KILL");
        enrolments
            .into_iter()
            .map(|enrolment| enrolment.join().unwrap())
            .collect()
    });
    drop(service);

    let service = site.serve();
    for (n, (token, outcome)) in tokens.iter().zip(outcomes).enumerate() {
        let name = format!("device-{n}");
        let enrolled = site.device(&name)["state"] == "enrolled";
        // Whoever got an answer is enrolled; who got none may be or not, but then its token still is good.
        assert!(
            enrolled || outcome.is_none(),
            "{name} was answered and forgotten"
        );
        let reply = service.enrol(token, &csr(&name, 100 + n as u64));
        if enrolled {
            reply.refused(ProblemCode::TokenUsed);
        } else {
            reply.granted();
        }
    }
    assert!(
        site.ok(&["audit", "verify"])
            .contains("none changed or missing")
    );
}

#[test]
fn commands_and_service_share_the_register() {
    let site = Site::new();
    let service = site.serve();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (site, service) = (&site, &service);
            scope.spawn(move || {
                for m in 0..3 {
                    let name = format!("device-{n}-{m}");
                    let token = site.add(&name, "role = sensor");
                    service.enrol(&token, &csr(&name, n * 10 + m)).granted();
                }
            });
        }
    });
    let list: serde_json::Value =
        serde_json::from_str(&site.ok(&["device", "list", "--json"])).unwrap();
    let devices = list.as_array().unwrap();
    assert_eq!(devices.len(), 12);
    assert!(devices.iter().all(|device| device["state"] == "enrolled"));
    assert!(
        site.ok(&["audit", "verify"])
            .contains("none changed or missing")
    );
}

#[test]
fn plain_http_gets_no_answer() {
    let site = Site::new();
    let service = site.serve();
    let mut tcp = std::net::TcpStream::connect(service.address).unwrap();
    tcp.write_all(b"GET /v1/ca HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer);
    assert!(!answer.windows(4).any(|w| w == b"HTTP"), "{answer:?}");
    assert_eq!(service.get("/healthz").status, 200);
}
