//! Registers of earlier versions: the tables are brought up to date, and what they hold goes on counting.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod site;

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use site::administrator::Presented;
use site::{Service, Site, csr};
use smqtt_pki::enrolment::{EnrolResponse, ProblemCode};
use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, AssertSqlSafe, Connection};

/// From these versions of the tables: each that there was with devices.
const VERSIONS: &[i64] = match Site::ON_POSTGRES {
    true => &[1, 8, 9],
    false => &[1, 2, 3, 4, 5, 6, 8, 9],
};

/// Whether tables of this version have what SQLite's had from `since` on; PostgreSQL's began with that of 6.
fn has(version: i64, since: i64) -> bool {
    version >= since || (Site::ON_POSTGRES && since <= 6)
}

/// Makes tables as the program did at `version`.
async fn make_tables(connection: &mut AnyConnection, version: i64) {
    let kind = match Site::ON_POSTGRES {
        true => "migrations/postgres",
        false => "migrations/sqlite",
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(kind);
    let mut migrator = Migrator::new(path).await.unwrap();
    let all = migrator.migrations.into_owned().into_iter();
    migrator.migrations = Cow::Owned(all.filter(|m| m.version <= version).collect());
    assert!(migrator.migrations.iter().any(|m| m.version == version));
    migrator.run(connection).await.unwrap();
}

async fn execute(connection: &mut AnyConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .unwrap();
}

async fn column(connection: &mut AnyConnection, sql: String) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_all(connection)
        .await
        .unwrap()
}

/// Puts what the tables of schema `new` hold into those of schema `old`, as far as these have columns for it.
async fn copy(connection: &mut AnyConnection, old: &str) {
    let tables = match Site::ON_POSTGRES {
        true => format!(
            "SELECT table_name::text FROM information_schema.tables WHERE table_schema = '{old}'
             AND table_type = 'BASE TABLE' AND table_name <> '_sqlx_migrations'"
        ),
        false => format!(
            "SELECT name FROM {old}.sqlite_schema WHERE type = 'table'
             AND name NOT IN ('_sqlx_migrations', 'sqlite_sequence')"
        ),
    };
    for table in column(connection, tables).await {
        let columns = match Site::ON_POSTGRES {
            true => format!(
                "SELECT column_name::text FROM information_schema.columns
                 WHERE table_schema = '{old}' AND table_name = '{table}'"
            ),
            false => format!("SELECT name FROM pragma_table_info('{table}', '{old}')"),
        };
        let columns = column(connection, columns).await.join(", ");
        // The audit log is append-only, and still empty.
        if table != "audit" {
            execute(connection, format!("DELETE FROM {old}.{table}")).await;
        }
        let insert =
            format!("INSERT INTO {old}.{table} ({columns}) SELECT {columns} FROM new.{table}");
        execute(connection, insert).await;
    }
}

/// Makes the register one of an earlier version, with what it holds.
fn age(site: &Site, version: i64) {
    sqlx::any::install_default_drivers();
    Site::block_on(async {
        match &site.server {
            None => {
                let register = site.path().join("register.sqlite");
                let old = site.dir.path().join("old.sqlite");
                let url = format!("sqlite://{}?mode=rwc", old.display());
                let mut connection = AnyConnection::connect(&url).await.unwrap();
                make_tables(&mut connection, version).await;
                let begin = format!(
                    "PRAGMA foreign_keys = OFF; ATTACH DATABASE '{}' AS new",
                    register.display()
                );
                execute(&mut connection, begin).await;
                copy(&mut connection, "main").await;
                connection.close().await.unwrap();
                for rest in ["-wal", "-shm"] {
                    let mut path = register.clone().into_os_string();
                    path.push(rest);
                    let _ = fs::remove_file(PathBuf::from(path));
                }
                let rights = fs::metadata(&register).unwrap().permissions();
                fs::rename(&old, &register).unwrap();
                fs::set_permissions(&register, rights).unwrap();
            }
            Some(server) => {
                let mut connection = AnyConnection::connect(&server.url()).await.unwrap();
                let begin = "ALTER SCHEMA public RENAME TO new; CREATE SCHEMA public";
                execute(&mut connection, begin.into()).await;
                make_tables(&mut connection, version).await;
                execute(
                    &mut connection,
                    "SET session_replication_role = replica".into(),
                )
                .await;
                copy(&mut connection, "public").await;
                for table in ["certificate", "attribute_key"] {
                    let go_on = format!(
                        "SELECT setval(pg_get_serial_sequence('{table}', 'id'), MAX(id)) FROM {table}"
                    );
                    execute(&mut connection, go_on).await;
                }
                execute(&mut connection, "DROP SCHEMA new CASCADE".into()).await;
                connection.close().await.unwrap();
            }
        }
    });
}

fn renew(service: &Service, held: &EnrolResponse, seed: u64) -> site::Reply {
    let body = json!({ "csr": csr(held.device.as_str(), seed) });
    Presented::device(held, seed).ask(service, "POST", "/v1/renew", Some(&body))
}

fn audit(site: &Site) -> Vec<String> {
    let text = site.ok(&["audit", "list", "--json"]);
    text.lines().map(str::to_owned).collect()
}

fn upgraded_from(version: i64) {
    let site = Site::new();
    let service = site.serve();
    let enrol = |name, seed| {
        let token = site.add(name, "role = sensor");
        service.enrol(&token, &csr(name, seed)).granted()
    };
    let active = enrol("active", 1);
    let expelled = enrol("expelled", 2);
    let open = site.add("waiting", "role = operator");
    site.ok(&["device", "revoke", "expelled"]);
    site.ok(&["audit", "checkpoint"]);
    drop(service);
    let before: Vec<Value> = ["active", "waiting"].map(|name| site.device(name)).into();
    let log = audit(&site);

    age(&site, version);

    // The first command brings the tables up to date. Devices are as they were.
    let after: Vec<Value> = ["active", "waiting"].map(|name| site.device(name)).into();
    assert_eq!(after, before, "from version {version}");
    let listed: Value = serde_json::from_str(&site.ok(&["device", "list", "--json"])).unwrap();
    let names = listed.as_array().unwrap().iter();
    let names: Vec<_> = names.map(|device| device["name"].as_str()).collect();
    assert_eq!(names, ["active", "expelled", "waiting"].map(Some));
    // Nothing of the log is lost, and what was signed of it still agrees.
    assert_eq!(audit(&site)[..log.len()], log);
    let verified = site.run(&["audit", "verify"]);
    assert!(
        verified.status.success(),
        "from version {version}: {verified:?}"
    );

    // The service checks the register when it starts, and devices go on.
    let service = site.serve();
    let renewed = renew(&service, &active, 1).granted();
    assert_eq!(renewed.epoch, 2);
    let confirmation = json!({ "epoch": 2 });
    let confirmed = Presented::device(&renewed, 1).ask(
        &service,
        "POST",
        "/v1/renew/confirm",
        Some(&confirmation),
    );
    assert_eq!(confirmed.status, 204);
    assert_eq!(site.device("active")["key_epoch"], 2);
    let reply = renew(&service, &expelled, 2);
    match has(version, 2) {
        true => drop(reply.refused(ProblemCode::CertificateRevoked)),
        // There was no revocation yet.
        false => drop(reply.granted()),
    }
    let enrolled = service.enrol(&open, &csr("waiting", 3)).granted();
    assert_eq!(enrolled.attributes, "role = operator");
    // What is new since is there for those who were there before.
    let policy = "kind = temperature";
    site.ok(&["device", "set", "active", "--key-policy", policy]);
    let grant = renew(&service, &renewed, 1).granted().key_policy.unwrap();
    assert_eq!(grant.granted.unwrap().policy, policy);
    site.ok(&["audit", "checkpoint"]);
    site.ok(&["audit", "verify"]);
}

#[test]
fn a_register_of_each_earlier_version_goes_on() {
    std::thread::scope(|scope| {
        for version in VERSIONS {
            scope.spawn(|| upgraded_from(*version));
        }
    });
}
