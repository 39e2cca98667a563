//! The same tests on PostgreSQL. What is in a module named `with_postgres` makes its authorities on a server of its own.
#![allow(clippy::unwrap_used)] // a panic is a failed test
#![allow(clippy::duplicate_mod)] // each of the files has its site

mod with_postgres;
