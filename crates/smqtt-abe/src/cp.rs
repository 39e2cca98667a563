//! Ciphertext-policy ABE: a policy stands in the ciphertext, attributes in the key.
//!
//! FABEO, Riepel and Wee, ACM CCS 2022, <https://eprint.iacr.org/2022/1415>, figure 1 left, as a key
//! encapsulation mechanism with the Fujisaki-Okamoto transform and implicit rejection.
//!
//! ```text
//! Setup           α ← Zp;  msk = g1^α;  Z = e(g1,g2)^α
//! KeyGen(S)       r ← Zp;  sk1 = g1^α·B^r;  sk2[u] = H(u)^r for u in S;  sk3 = g2^r
//! Encaps(M,π)     ct1 = g2^s;  ct2[j] = g2^(s'_j);  ct3[i] = B^(λ_i)·H(π(i))^(s'_ρ(i));  d = Z^s
//! Decaps          d = e(sk1,ct1) · Π_j e(Π_{ρ(i)=j} sk2[π(i)]^γ_i, ct2[j]) · e(Π ct3[i]^-γ_i, sk3)
//! ```
//!
//! That decapsulation finds `d`: with Σ γ_i·λ_i = s the three factors are
//! `e(g1,g2)^(αs) · e(B,g2)^(rs)`, then `Π_i e(H(π(i)),g2)^(γ_i·r·s'_ρ(i))`, then
//! `e(B,g2)^(-rs) · Π_i e(H(π(i)),g2)^(-γ_i·r·s'_ρ(i))`; all but the first's first cancels.

mod key;
mod master;
mod parameters;

pub use key::AttributeKey;
pub use master::{MasterKey, setup};
pub use parameters::PublicParameters;

/// The suite of everything in this module.
const SUITE: crate::Suite = crate::Suite::FabeoCpBls12381;
