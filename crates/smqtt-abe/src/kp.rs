//! Key-policy ABE: a policy stands in the key, attributes in the ciphertext.
//!
//! FABEO, Riepel and Wee, ACM CCS 2022, <https://eprint.iacr.org/2022/1415>, figure 1 right, as a key
//! encapsulation mechanism with the Fujisaki-Okamoto transform and implicit rejection. Its set-up is
//! its own: no master key serves both schemes.
//!
//! ```text
//! Setup           α ← Zp;  msk = g1^α;  Z = e(g1,g2)^α
//! KeyGen(M,π)     r_1..r_τ ← Zp;  sk1[i] = g1^(λ_i)·H(π(i))^(r_ρ(i));  sk2[j] = g2^(r_j)
//! Encaps(S)       s ← Zp;  ct1 = g2^s;  ct2[u] = H(u)^s for u in S;  d = Z^s
//! Decaps          d = e(Π sk1[i]^γ_i, ct1) · Π_j e(Π_{ρ(i)=j} ct2[π(i)]^-γ_i, sk2[j])
//! ```
//!
//! Here the λ_i share α. That decapsulation finds `d`: with Σ γ_i·λ_i = α the first factor is
//! `e(g1,g2)^(αs) · Π_i e(H(π(i)),g2)^(γ_i·s·r_ρ(i))`, and the others are the inverse of its second
//! half.
//!
//! ```
//! # use rand::SeedableRng;
//! use smqtt_abe::kp;
//! use smqtt_policy::{AttributeSet, Epoch, Policy};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(7); // use a generator seeded by the system
//! let (master, parameters) = kp::setup(&mut rng);
//! let epoch = Epoch::new(1);
//! let policy: Policy = "type = temperature and topic matches house/+/temperature".parse()?;
//! let key = master.issue(&parameters, &policy.at_epoch(epoch), &mut rng)?;
//!
//! let label: AttributeSet = "type = temperature".parse()?;
//! let label = label.with_topic("house/attic/temperature")?.with_epoch(epoch);
//! let (ciphertext, shared) = parameters.encapsulate(&label, &mut rng)?;
//! assert!(key.decapsulate(&parameters, &label, &ciphertext)? == shared);
//! # Ok(())
//! # }
//! ```

mod key;
mod master;
mod parameters;

pub use key::PolicyKey;
pub use master::{MasterKey, setup};
pub use parameters::PublicParameters;

/// The suite of everything in this module.
const SUITE: crate::Suite = crate::Suite::FabeoKpBls12381;
