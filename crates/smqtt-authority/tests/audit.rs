//! The audit log's proofs: any byte that is changed, and any row that is cut off, is found.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod site;

use std::fs;

use site::Site;
use smqtt_authority::{Authority, Checkpoint, Directory, verify_audit_export};

fn small() -> Site {
    let site = Site::new();
    let _ = site.add("sensor-17", "role = \"Müller & Söhne\"");
    let _ = site.run(&["device", "add", "sensor-17", "--attributes", "role = x"]);
    site
}

#[test]
fn an_export_is_verified_without_the_authority_and_every_byte_counts() {
    let site = small();
    let export = site.dir.path().join("audit.jsonl");
    site.ok(&[
        "audit",
        "export",
        "--json",
        "--out",
        export.to_str().unwrap(),
    ]);
    let ca = site.dir.path().join("ca.crt");
    fs::copy(site.path().join("ca.crt"), &ca).unwrap();
    let whole = fs::read(&export).unwrap();
    let anchor = Directory::open(&site.path())
        .unwrap()
        .trust_anchor()
        .clone();
    fs::rename(site.path(), site.dir.path().join("gone")).unwrap();
    let verify = ["audit", "verify", "--export", export.to_str().unwrap()];
    let verify = [&verify[..], &["--ca", ca.to_str().unwrap()]].concat();
    assert!(site.ok(&verify).starts_with("3 entries"));

    let check = |bytes: &[u8]| verify_audit_export(&mut &bytes[..], &anchor, &[]);
    assert_eq!(check(&whole).unwrap().covered, 3);
    for at in 0..whole.len() {
        for flip in [1, 0x20, 0x80] {
            let mut changed = whole.clone();
            changed[at] ^= flip;
            assert!(check(&changed).is_err(), "byte {at} of {}", whole.len());
        }
        assert!(check(&whole[..at]).is_err(), "cut at {at}");
    }
    let lines: Vec<_> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), 4);
    for left_out in 0..4 {
        let rest = lines.iter().enumerate().filter(|(i, _)| *i != left_out);
        let rest: Vec<u8> = rest.flat_map(|(_, line)| line.to_vec()).collect();
        assert!(check(&rest).is_err(), "without line {left_out}");
    }
    let twice = [&whole[..], lines[3]].concat();
    assert!(check(&twice).is_err());

    let others = Site::new();
    let foreign = others.path().join("ca.crt");
    let output = site.run(&[&verify[..4], &["--ca", foreign.to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(4));
}

#[tokio::test]
async fn every_byte_of_every_row_in_the_register_counts() {
    let site = small();
    site.ok(&["audit", "checkpoint"]);
    let authority = Authority::open(Directory::open(&site.path()).unwrap())
        .await
        .unwrap();
    let whole = authority.verify_audit(&[]).await.unwrap();
    assert_eq!((whole.entries, whole.covered, whole.checkpoints), (3, 3, 1));
    let site = tokio::task::spawn_blocking(move || {
        site.drop_guards();
        site
    });
    let site = site.await.unwrap();
    let pool = site.register().await;
    let mut tried = 0;
    for (table, key, columns) in [
        (
            "audit",
            "sequence",
            &["actor", "action", "subject", "outcome", "detail", "chain"][..],
        ),
        (
            "audit_checkpoint",
            "sequence",
            &["chain", "issuer", "signature"],
        ),
    ] {
        let select = |what: &str| sqlx::AssertSqlSafe(format!("SELECT {what} FROM {table}"));
        let keys: Vec<i64> = sqlx::query_scalar(select(key))
            .fetch_all(&pool)
            .await
            .unwrap();
        for row in keys {
            for column in columns {
                let text = !matches!(*column, "chain" | "issuer" | "signature");
                let (read, written) = match (text, Site::ON_POSTGRES) {
                    (false, _) => ((*column).to_owned(), "$1"),
                    (true, false) => (format!("CAST({column} AS BLOB)"), "CAST($1 AS TEXT)"),
                    (true, true) => (
                        format!("convert_to({column}, 'UTF8')"),
                        "convert_from($1, 'UTF8')",
                    ),
                };
                let value: Vec<u8> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
                    "SELECT {read} FROM {table} WHERE {key} = {row}"
                )))
                .fetch_one(&pool)
                .await
                .unwrap();
                let set = format!("UPDATE {table} SET {column} = {written} WHERE {key} = {row}");
                for at in 0..value.len() {
                    let mut changed = value.clone();
                    changed[at] ^= 1;
                    let put = |bytes: Vec<u8>| {
                        sqlx::query(sqlx::AssertSqlSafe(set.clone()))
                            .bind(bytes)
                            .execute(&pool)
                    };
                    put(changed).await.unwrap();
                    let found = authority.verify_audit(&[]).await;
                    assert!(found.is_err(), "byte {at} of {table}.{column} in row {row}");
                    put(value.clone()).await.unwrap();
                    tried += 1;
                }
            }
        }
    }
    for column in ["sequence", "time"] {
        for table in ["audit", "audit_checkpoint"] {
            let change = |by: &str| {
                sqlx::AssertSqlSafe(format!(
                    "UPDATE {table} SET {column} = {column} {by} WHERE sequence >= 3"
                ))
            };
            for bit in 0..40u64 {
                let (more, less) = (format!("+ {}", 1u64 << bit), format!("- {}", 1u64 << bit));
                let back = if column == "sequence" {
                    format!("UPDATE {table} SET {column} = 3 WHERE sequence >= 3")
                } else {
                    format!("UPDATE {table} SET {column} = {column} {less} WHERE sequence >= 3")
                };
                sqlx::query(change(&more)).execute(&pool).await.unwrap();
                assert!(
                    authority.verify_audit(&[]).await.is_err(),
                    "{table}.{column} {more}"
                );
                sqlx::query(sqlx::AssertSqlSafe(back))
                    .execute(&pool)
                    .await
                    .unwrap();
            }
        }
    }
    assert!(tried > 300, "{tried}");
    assert_eq!(authority.verify_audit(&[]).await.unwrap().entries, 3);
    pool.close().await;
    authority.close().await;
}

#[test]
fn rows_that_are_cut_off_are_missed() {
    let site = small();
    let kept = site.dir.path().join("checkpoint");
    site.ok(&["audit", "checkpoint", "--out", kept.to_str().unwrap()]);
    let text = fs::read_to_string(&kept).unwrap();
    let checkpoint = Checkpoint::from_json(text.trim_end()).unwrap();
    assert_eq!(checkpoint.sequence, 3);
    let _ = site.add("second", "role = sensor");
    let verify = ["audit", "verify", "--checkpoint", kept.to_str().unwrap()];
    site.ok(&verify);

    site.drop_guards();
    let run = |sql: &'static str| site.execute(sql).unwrap();
    run("DELETE FROM audit WHERE sequence = 4");
    // Nothing covered it.
    site.ok(&verify);
    run("DELETE FROM audit WHERE sequence = 3");
    let output = site.run(&["audit", "verify"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("removed at the end"));
    // Who removes the register's own checkpoints is found by the one that lies elsewhere.
    run("DELETE FROM audit_checkpoint");
    site.ok(&["audit", "verify"]);
    assert_eq!(site.run(&verify).status.code(), Some(4));

    let mut forged = checkpoint.clone();
    forged.sequence = 2;
    let file = site.dir.path().join("forged");
    fs::write(&file, forged.to_json()).unwrap();
    let output = site.run(&["audit", "verify", "--checkpoint", file.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("signature is not the authority's"));
}

#[test]
fn the_service_signs_the_log_at_its_start() {
    let site = small();
    let service = site.serve();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let output = site.run(&["audit", "verify"]);
        assert!(output.status.success());
        if String::from_utf8_lossy(&output.stderr).contains("1 signed checkpoint agrees") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{}", service.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
