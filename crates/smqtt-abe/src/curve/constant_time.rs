//! Checks under valgrind's memcheck that no branch and no address depends on a secret, the way
//! `ctgrind` does it: a subject marks its secret as undefined memory, and memcheck reports every
//! conditional jump and every memory access that depends on undefined bits.
//!
//! ```text
//! cargo test --release -p smqtt-abe constant_time
//! ```
//!
//! Release only: `subtle` asserts on its choices where debug assertions are on, and such an assertion
//! is a branch. Without valgrind the tests say so and pass.

use std::{arch::asm, hint::black_box, process::Command};

use smqtt_policy::{Attribute, Epoch};
use zeroize::Zeroizing;

use super::{FixedBase, G1, G2, Gt, Scalar, pairing};
use crate::{Suite, oracle::Oracles};

const MAKE_UNDEFINED: usize = 0x4d43_0001;
const MAKE_DEFINED: usize = 0x4d43_0002;

/// A client request of valgrind: a sequence of instructions that does nothing outside of it.
fn request<T: ?Sized>(code: usize, memory: &mut T) {
    #[cfg(target_arch = "x86_64")]
    {
        let address = core::ptr::from_mut(memory).cast::<u8>();
        let args = [code, address as usize, size_of_val(memory), 0, 0, 0];
        // SAFETY: rotations by 128 bits in all and an exchange of a register with itself; valgrind
        // reads `args` and changes the state of its shadow memory alone.
        unsafe {
            asm!(
                "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
                in("rax") args.as_ptr(), inout("rdx") 0usize => _, inout("rdi") 0usize => _,
            );
        }
    }
    black_box(memory);
}

/// Makes the value's bits undefined for memcheck, hence secret for these tests.
fn secret<T>(mut value: T) -> T {
    request(MAKE_UNDEFINED, &mut value);
    value
}

/// Gives a result free for branches again.
fn public<T>(mut value: T) -> T {
    request(MAKE_DEFINED, &mut value);
    value
}

fn exponent() -> Scalar {
    secret(Scalar::from_u64(0x0123_4567_89ab_cdef).neg())
}

#[test]
#[ignore = "a subject, run under valgrind"]
fn subject_gt() {
    let base = pairing(&G1::generator().to_affine(), &G2::generator().to_affine());
    let table = FixedBase::<Gt>::new(&base);
    black_box(public(table.pow(&exponent())));
}

#[test]
#[ignore = "a subject, run under valgrind"]
fn subject_g1() {
    let g = G1::generator();
    let table = FixedBase::<G1>::new(&g.to_affine());
    let (x, y) = (exponent(), exponent());
    black_box(public(FixedBase::joint(&[(&table, &x), (&table, &y)])));
    // Coefficients of a policy are public, the key's element that they are applied to is not.
    black_box(public(secret(g).pow(&Scalar::from_u64(12345).neg())));
    black_box(public(x.mul(&y).add(&x).to_le_bytes()));
}

#[test]
#[ignore = "a subject, run under valgrind"]
fn subject_g2() {
    let table = FixedBase::<G2>::new(&G2::generator().to_affine());
    // To affine coordinates it goes only to be published. That asks whether Z is zero or one, which
    // it is once in 2^380.
    black_box(public(table.pow(&exponent())).to_affine());
}

/// Decapsulation from a secret d on, with a message that is not the right one: derivation, the
/// comparison of the whole ciphertext, and the choice of the key.
#[test]
#[ignore = "a subject, run under valgrind"]
fn subject_comparison() {
    let base = pairing(&G1::generator().to_affine(), &G2::generator().to_affine());
    let oracles = Oracles::new(Suite::FabeoCpBls12381, [7; 32]);
    let context = oracles.context(&Attribute::epoch(Epoch::new(1)).encode());
    let ciphertext = secret([3u8; 704]);
    let d = Zeroizing::new(secret(base));
    let key = context.conclude(&ciphertext, &d, &secret([9; 32]), |coins| {
        let mut again = ciphertext[..672].to_vec();
        again[..32].copy_from_slice(&*coins.secret().to_le_bytes());
        again
    });
    black_box(public(*key.as_bytes()));
}

/// What the checks are there to find: without it they would prove nothing.
#[test]
#[ignore = "a subject, run under valgrind"]
fn subject_branch() {
    let x = secret(black_box(5u64));
    if black_box(x) == 5 {
        black_box(1);
    }
}

#[test]
#[ignore = "a subject, run under valgrind"]
fn subject_address() {
    let table = black_box([1u8; 256]);
    let x = secret(black_box(5u8));
    black_box(table[usize::from(black_box(x))]);
}

/// Whether memcheck finds nothing in a subject, or `None` where there is no valgrind.
fn clean(subject: &str) -> Option<bool> {
    if cfg!(not(target_arch = "x86_64"))
        || Command::new("valgrind").arg("--version").output().is_err()
    {
        eprintln!("SKIPPED: {subject} was not checked: install valgrind (x86-64)");
        return None;
    }
    let output = Command::new("valgrind")
        .args(["--quiet", "--error-exitcode=99"])
        .arg(std::env::current_exe().expect("a test has a program"))
        .args(["--ignored", "--exact", "--test-threads=1"])
        .arg(format!("curve::constant_time::{subject}"))
        .output()
        .expect("valgrind was there a moment ago");
    let report = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {
            let ran = String::from_utf8_lossy(&output.stdout);
            assert!(ran.contains("1 passed"), "{subject} did not run: {ran}");
            Some(true)
        }
        Some(99) => {
            eprintln!("{report}");
            Some(false)
        }
        other => panic!("valgrind ended with {other:?}: {report}"),
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "with --release only")]
fn exponentiation_is_constant_time_in_every_group() {
    for subject in ["subject_gt", "subject_g1", "subject_g2"] {
        assert_ne!(clean(subject), Some(false), "{subject}");
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "with --release only")]
fn the_end_of_decapsulation_is_constant_time() {
    assert_ne!(clean("subject_comparison"), Some(false));
}

#[test]
#[cfg_attr(debug_assertions, ignore = "with --release only")]
fn branches_and_addresses_that_depend_on_secrets_are_found() {
    for subject in ["subject_branch", "subject_address"] {
        assert_ne!(clean(subject), Some(true), "{subject}");
    }
}
