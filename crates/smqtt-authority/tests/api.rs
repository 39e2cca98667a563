//! The API as administrators use it: over TLS with roles, and on the Unix socket.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod site;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use site::administrator::{Presented, anonymous, ask_locally, metric, source};
use site::{Reply, Service, Site, csr, mode};
use smqtt_pki::enrolment::ProblemCode;

fn value(reply: &Reply) -> Value {
    assert!(
        (200..300).contains(&reply.status),
        "{} {}",
        reply.status,
        String::from_utf8_lossy(&reply.body)
    );
    serde_json::from_slice(&reply.body).unwrap()
}

fn document(service: &Service) -> Value {
    value(&service.get("/v1/openapi.json"))
}

/// The audit log's rows of an actor: action, subject, outcome.
fn acts(site: &Site, actor: &str) -> Vec<(String, String, String)> {
    let text = site.ok(&["audit", "list", "--json"]);
    let rows = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let field = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    rows.filter(|row| row["actor"] == actor)
        .map(|row| {
            (
                field(&row, "action"),
                field(&row, "subject"),
                field(&row, "outcome"),
            )
        })
        .collect()
}

/// Whether a value is as the document's schema says, without anything beyond it.
fn check(document: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document
            .pointer(reference.trim_start_matches('#'))
            .ok_or_else(|| format!("{reference} is missing"))?;
        return check(document, target, value, place);
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[choice].as_array() {
            let fits = choices
                .iter()
                .any(|one| check(document, one, value, place).is_ok());
            return fits
                .then_some(())
                .ok_or_else(|| format!("{place}: {value} is none of {choices:?}"));
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        return values
            .contains(value)
            .then_some(())
            .ok_or_else(|| format!("{place}: {value} is not among {values:?}"));
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return Err(format!("{place}: the schema {schema} has no type")),
    };
    let fits = types.iter().any(|kind| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    });
    if !fits {
        return Err(format!("{place}: {value} is not {types:?}"));
    }
    if let (Some(fields), Some(known)) = (value.as_object(), schema["properties"].as_object()) {
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap();
            if !fields.contains_key(name) {
                return Err(format!("{place}: {name} is missing"));
            }
        }
        for (name, field) in fields {
            let place = format!("{place}.{name}");
            let schema = known
                .get(name)
                .ok_or_else(|| format!("{place} is not in the document"))?;
            check(document, schema, field, &place)?;
        }
    }
    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
        check(document, &schema["items"], item, &format!("{place}[{n}]"))?;
    }
    Ok(())
}

/// Checks an answer against what the document says of the operation.
fn conforms(document: &Value, method: &str, template: &str, reply: &Reply) {
    let operation = &document["paths"][template][method.to_lowercase()];
    let answer = &operation["responses"][reply.status.to_string()];
    assert!(
        answer.is_object(),
        "{method} {template} answers {}: {}",
        reply.status,
        String::from_utf8_lossy(&reply.body)
    );
    let Some(content) = answer["content"].as_object() else {
        assert!(reply.body.is_empty());
        return;
    };
    let (media_type, described) = content.iter().next().unwrap();
    let sent = reply.header("content-type").unwrap();
    assert!(sent.starts_with(media_type.as_str()), "{sent}");
    if media_type == "application/json" && template != "/v1/openapi.json" {
        let body = serde_json::from_slice(&reply.body).unwrap();
        check(document, &described["schema"], &body, template).unwrap();
    }
}

#[test]
fn every_operation_is_described_and_answers_as_described() {
    let site = Site::new();
    site.ok(&["profile", "set", "spare", "--attributes", "role = spare"]);
    let schema = site.dir.path().join("schema.toml");
    std::fs::write(
        &schema,
        "[attributes.role]\ntype = \"text\"\n[attributes.site]\ntype = \"text\"\n",
    )
    .unwrap();
    site.ok(&["schema", "edit", "--file", schema.to_str().unwrap()]);
    let operator = Presented::admin(&site, "anna", "operator");
    // Nobody listens there: that is told, and is no failure.
    let service = site.serve_with(&["--broker", "mqtt://127.0.0.1:9"]);
    let document = document(&service);
    assert_eq!(site.ok(&["openapi"]).trim_end(), {
        let reply = service.get("/v1/openapi.json");
        String::from_utf8(reply.body).unwrap()
    });

    let mut asked = BTreeSet::new();
    let mut ask =
        |who: &Presented, method: &str, template: &str, path: &str, body: Option<Value>| {
            let reply = who.ask(&service, method, path, body.as_ref());
            conforms(&document, method, template, &reply);
            asked.insert((template.to_owned(), method.to_lowercase()));
            serde_json::from_slice::<Value>(&reply.body).unwrap_or_default()
        };
    let added = ask(
        &operator,
        "POST",
        "/v1/devices",
        "/v1/devices",
        Some(
            json!({ "name": "sensor-1", "attributes": "role = sensor", "uses": 2, "token_expires": 60 }),
        ),
    );
    let csr = csr("sensor-1", 1);
    let body = json!({ "token": added["token"], "csr": csr });
    let reply = operator.ask(&service, "POST", "/v1/enrol", Some(&body));
    conforms(&document, "POST", "/v1/enrol", &reply);
    let device = Presented::device(&reply.granted(), 1);
    for (method, template, body) in [
        ("POST", "/v1/renew", json!({ "csr": csr })),
        ("POST", "/v1/renew/confirm", json!({ "epoch": 1 })),
    ] {
        ask(&device, method, template, template, Some(body));
    }
    for (method, template, path, body) in [
        (
            "GET",
            "/v1/devices",
            "/v1/devices?state=enrolled&where=role%20%3D%20sensor&limit=1",
            None,
        ),
        ("GET", "/v1/devices/{name}", "/v1/devices/sensor-1", None),
        (
            "PATCH",
            "/v1/devices/{name}",
            "/v1/devices/sensor-1",
            Some(json!({ "attributes": "role = sensor, site = berlin" })),
        ),
        (
            "POST",
            "/v1/devices/{name}/suspend",
            "/v1/devices/sensor-1/suspend",
            Some(json!({ "advance_epoch": true })),
        ),
        (
            "POST",
            "/v1/devices/{name}/reinstate",
            "/v1/devices/sensor-1/reinstate",
            None,
        ),
        (
            "POST",
            "/v1/devices/{name}/revoke",
            "/v1/devices/sensor-1/revoke",
            Some(json!({ "reason": "key-compromise" })),
        ),
        (
            "POST",
            "/v1/devices/{name}/token",
            "/v1/devices/sensor-1/token",
            Some(json!({ "re_enrol": true })),
        ),
        ("GET", "/v1/devices", "/v1/devices", None),
        ("DELETE", "/v1/devices/{name}", "/v1/devices/sensor-1", None),
        (
            "PUT",
            "/v1/profiles/{name}",
            "/v1/profiles/spare",
            Some(json!({ "attributes": "role = other" })),
        ),
        ("GET", "/v1/profiles", "/v1/profiles", None),
        ("DELETE", "/v1/profiles/{name}", "/v1/profiles/spare", None),
        ("GET", "/v1/schema", "/v1/schema", None),
        (
            "GET",
            "/v1/policy/who",
            "/v1/policy/who?policy=role%20%3D%20sensor",
            None,
        ),
        (
            "GET",
            "/v1/policy/diff",
            "/v1/policy/diff?old=role%20%3D%20a&new=role%20%3D%20b",
            None,
        ),
        ("GET", "/v1/epoch", "/v1/epoch", None),
        (
            "POST",
            "/v1/epoch/advance",
            "/v1/epoch/advance",
            Some(json!({ "overlap": 0 })),
        ),
        ("POST", "/v1/crl/issue", "/v1/crl/issue", None),
        ("GET", "/v1/crl", "/v1/crl", None),
        ("GET", "/v1/audit", "/v1/audit?limit=3", None),
        ("GET", "/metrics", "/metrics", None),
        ("GET", "/healthz", "/healthz", None),
        ("GET", "/v1/ca", "/v1/ca", None),
        ("GET", "/v1/parameters", "/v1/parameters", None),
        ("GET", "/v1/openapi.json", "/v1/openapi.json", None),
    ] {
        ask(&operator, method, template, path, body);
    }
    asked.insert(("/v1/enrol".into(), "post".into()));
    let described: BTreeSet<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, operations)| {
            let methods = operations.as_object().unwrap().keys();
            methods.map(|method| (path.clone(), method.clone()))
        })
        .collect();
    assert_eq!(asked, described);

    // Each act is in the log, under the name of who did it.
    let log = acts(&site, "admin:anna");
    for action in [
        "device-add",
        "device-set",
        "device-suspend",
        "device-reinstate",
        "device-revoke",
        "device-token",
        "device-remove",
        "profile-set",
        "profile-remove",
        "epoch-advance",
        "crl-issue",
    ] {
        let done = log.iter().filter(|row| row.0 == action && row.2 == "ok");
        assert_eq!(done.count(), 1, "{action} in {log:?}");
    }
    assert!(
        site.ok(&["audit", "verify"])
            .contains("none changed or missing")
    );
}

#[test]
fn nobody_but_an_administrator_of_the_role_is_admitted_to_any_operation() {
    let site = Site::new();
    let auditor = Presented::admin(&site, "otto", "auditor");
    let token = site.add("sensor-1", "role = sensor");
    let service = site.serve();
    let granted = service.enrol(&token, &csr("sensor-1", 1)).granted();
    let device = Presented::device(&granted, 1);
    let document = document(&service);
    let public = [
        "/v1/enrol",
        "/v1/renew",
        "/v1/renew/confirm",
        "/v1/ca",
        "/v1/parameters",
        "/v1/crl",
        "/healthz",
        "/v1/openapi.json",
    ];
    let devices = site.ok(&["device", "list", "--json"]);
    let (mut n, mut reads, mut acts_refused) = (0, 0, 0);
    // Each from an address of its own: who fails often waits.
    let mut next = || {
        n += 1;
        source(n)
    };
    for (template, operations) in document["paths"].as_object().unwrap() {
        if public.contains(&template.as_str()) {
            continue;
        }
        let path = template.replace("{name}", "sensor-1");
        for method in operations.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            anonymous(&site, &service, next(), &method, &path, None)
                .refused(ProblemCode::CertificateRequired);
            device
                .ask_from(&service, next(), &method, &path, None)
                .refused(ProblemCode::Forbidden);
            let reply = auditor.ask_from(&service, next(), &method, &path, None);
            if method == "GET" {
                // Parameters may be missing, a schema may be: it was let in.
                assert!([200, 400, 404].contains(&reply.status), "{path}");
                reads += 1;
            } else {
                reply.refused(ProblemCode::Forbidden);
                acts_refused += 1;
            }
        }
    }
    assert!(reads > 8 && acts_refused > 10, "{reads} {acts_refused}");
    assert_eq!(site.ok(&["device", "list", "--json"]), devices);
    // Refusals are in the log: the auditor's by name, the device's with its name.
    let refused: Vec<_> = acts(&site, "admin:otto");
    assert_eq!(refused.len(), acts_refused);
    assert!(
        refused
            .iter()
            .all(|row| row.0 == "admin-call" && row.2 == "forbidden")
    );
    let by_device = acts(&site, "address:127.1.0.2");
    assert_eq!(
        by_device,
        [("admin-call".into(), "sensor-1".into(), "forbidden".into())]
    );
}

#[test]
fn who_is_removed_or_replaced_is_refused_at_once() {
    let site = Site::new();
    let first = Presented::admin(&site, "anna", "operator");
    let service = site.serve();
    value(&first.ask(&service, "GET", "/v1/devices", None));
    std::fs::rename(
        site::administrator::directory(&site, "anna"),
        site.dir.path().join("before"),
    )
    .unwrap();
    let second = Presented::admin(&site, "anna", "auditor");
    first
        .ask(&service, "GET", "/v1/devices", None)
        .refused(ProblemCode::CertificateRevoked);
    value(&second.ask(&service, "GET", "/v1/devices", None));
    let listed: Value = serde_json::from_str(&site.ok(&["admin", "list", "--json"])).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(
        (&listed[0]["name"], &listed[0]["role"]),
        (&json!("anna"), &json!("auditor"))
    );

    site.ok(&["admin", "remove", "anna"]);
    second
        .ask(&service, "GET", "/v1/devices", None)
        .refused(ProblemCode::CertificateRevoked);
    assert_eq!(
        site.run(&["admin", "remove", "anna"]).status.code(),
        Some(3)
    );
    // Brokers learn of it too: both certificates are on the list.
    let list = service.get("/v1/crl");
    let anchor = smqtt_pki::TrustAnchor::from_pem(&service.get("/v1/ca").body).unwrap();
    let lists = smqtt_pki::Revocations::read(&list.body, &anchor).unwrap();
    assert_eq!(lists.len(), 2);
}

#[test]
fn a_key_may_stay_where_it_is() {
    let site = Site::new();
    let request = site.dir.path().join("anna.csr");
    std::fs::write(&request, csr("anything", 5)).unwrap();
    let out = site.dir.path().join("anna");
    site.ok(&[
        "admin",
        "add",
        "anna",
        "--role",
        "operator",
        "--csr",
        request.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ]);
    assert!(!out.join("client.key").exists());
    let read = |name: &str| smqtt_pki::files::read_certificates(&out.join(name)).unwrap();
    let anna = Presented::with(read("client.crt"), 5, read("ca.crt")[0].clone());
    let service = site.serve();
    value(&anna.ask(&service, "GET", "/v1/epoch", None));
}

#[test]
fn lists_come_in_pages() {
    let site = Site::new();
    let auditor = Presented::admin(&site, "otto", "auditor");
    for n in 0..7 {
        site.add(
            &format!("sensor-{n}"),
            if n == 3 {
                "role = odd"
            } else {
                "role = sensor"
            },
        );
    }
    let service = site.serve();
    let mut names = Vec::new();
    let mut path = "/v1/devices?where=role%20%3D%20sensor&limit=2".to_owned();
    let mut pages = 0;
    loop {
        let page = value(&auditor.ask(&service, "GET", &path, None));
        pages += 1;
        names.extend(
            page["devices"]
                .as_array()
                .unwrap()
                .iter()
                .map(|device| device["name"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/v1/devices?where=role%20%3D%20sensor&limit=2&after={next}");
    }
    assert_eq!(pages, 3);
    assert_eq!(names, [0, 1, 2, 4, 5, 6].map(|n| format!("sensor-{n}")));

    // The audit log by pages is the whole log.
    let whole = site.ok(&["audit", "list", "--json"]);
    let count = whole.lines().count();
    let (mut after, mut rows) = (0, Vec::new());
    loop {
        let path = format!("/v1/audit?limit=5&after={after}");
        let page = value(&auditor.ask(&service, "GET", &path, None));
        rows.extend(page["entries"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_u64() else {
            break;
        };
        after = next;
    }
    assert!(rows.len() >= count);
    for (n, row) in rows.iter().enumerate() {
        assert_eq!(row["sequence"], json!(n + 1));
        assert_eq!(row["chain"].as_str().unwrap().len(), 64);
    }
    for path in [
        "/v1/devices?limit=0",
        "/v1/devices?limit=1001",
        "/v1/audit?limit=0",
        "/v1/devices?after=%27",
    ] {
        auditor
            .ask(&service, "GET", path, None)
            .refused(ProblemCode::InvalidInput);
    }
    for path in [
        "/v1/devices?stat=enrolled",
        "/v1/devices?limit=x",
        "/v1/policy/who",
    ] {
        auditor
            .ask(&service, "GET", path, None)
            .refused(ProblemCode::MalformedRequest);
    }
}

#[test]
fn the_socket_makes_an_account_of_this_machine_an_operator() {
    let site = Site::new();
    let path = site.dir.path().join("admin.sock");
    let service = site.serve_with(&["--admin-socket", path.to_str().unwrap()]);
    assert_eq!(mode(&path), 0o600);
    let added = value(&ask_locally(
        &path,
        "POST",
        "/v1/devices",
        Some(&json!({ "name": "sensor-1", "attributes": "role = sensor" })),
    ));
    service
        .enrol(added["token"].as_str().unwrap(), &csr("sensor-1", 1))
        .granted();
    let shown = value(&ask_locally(&path, "GET", "/v1/devices/sensor-1", None));
    assert_eq!(shown["state"], "enrolled");
    let uid = std::fs::metadata(&path)
        .map(|file| std::os::unix::fs::MetadataExt::uid(&file))
        .unwrap();
    let added: Vec<_> = acts(&site, &format!("uid:{uid}"))
        .into_iter()
        .filter(|row| row.0 == "device-add")
        .collect();
    assert_eq!(
        added,
        [("device-add".into(), "sensor-1".into(), "ok".into())]
    );
    // What only devices ask is not there.
    ask_locally(&path, "POST", "/v1/enrol", None).refused(ProblemCode::NotFound);
    // A second service does not take the socket away; one that was killed does not hold it.
    let second = site.run(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin-socket",
        path.to_str().unwrap(),
    ]);
    assert_eq!(second.status.code(), Some(5));
    service.signal("KILL");
    service.wait();
    let service = site.serve_with(&["--admin-socket", path.to_str().unwrap()]);
    assert_eq!(ask_locally(&path, "GET", "/healthz", None).status, 200);
    service.signal("TERM");
    assert_eq!(service.wait().code(), Some(0));
    assert!(!Path::new(&path).exists());
}

#[test]
fn metrics_tell_what_the_register_and_the_service_have_seen() {
    let site = Site::new();
    let auditor = Presented::admin(&site, "otto", "auditor");
    let (used, _open) = (
        site.add("sensor-1", "role = sensor"),
        site.add("sensor-2", "role = sensor"),
    );
    let service = site.serve();
    service.enrol(&used, &csr("sensor-1", 1)).granted();
    service
        .enrol(&used, &csr("sensor-1", 2))
        .refused(ProblemCode::TokenUsed);
    site.ok(&["epoch", "advance", "--overlap", "1h"]);
    let reply = auditor.ask(&service, "GET", "/metrics", None);
    let text = String::from_utf8(reply.body.clone()).unwrap();
    assert!(text.ends_with("# EOF\n"));
    for (name, number) in [
        ("devices{state=\"enrolled\"}", 1),
        ("devices{state=\"registered\"}", 1),
        ("certificates_issued_total", 1),
        ("attribute_keys_issued_total", 1),
        ("certificates_expiring{days=\"30\"}", 0),
        ("tokens_open", 1),
        ("epoch", 2),
        ("epoch_sealing", 1),
        ("epoch_devices_renewed", 0),
        ("epoch_devices_behind", 1),
        ("enrolled_total", 1),
        ("refused_total{cause=\"token-used\"}", 1),
        (
            "requests_total{method=\"POST\",route=\"/v1/enrol\",status=\"200\"}",
            1,
        ),
        ("request_duration_seconds_count{route=\"/v1/enrol\"}", 2),
    ] {
        let name = format!("smqtt_authority_{name}");
        assert!(text.contains(&name), "{name} is missing in {text}");
        assert_eq!(metric(&text, &name), number, "{name}");
    }
}
