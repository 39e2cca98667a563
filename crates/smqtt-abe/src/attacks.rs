//! Published attacks on attribute-based encryption, each written as the attacker: with the group
//! elements that it has, and nothing else. Where the attack needs a weakness that this crate does
//! not have, the test first builds the weakness and shows that the attack works there.

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};
use smqtt_policy::{Attribute, AttributeSet, Epoch, Formula, Policy};

use crate::{
    cp,
    curve::{G1, G1_BYTES, G1Affine, G2, G2_BYTES, G2Affine, Gt, Scalar, WIDE_BYTES, pairing},
    kp,
    share::{ShareMatrix, linear},
};

fn multi_pairing(pairs: &[(G1Affine, G2Affine)]) -> Gt {
    pairs
        .iter()
        .fold(Gt::one(), |product, (p, q)| product.mul(&pairing(p, q)))
}

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn flag(name: &str) -> Attribute {
    Attribute::flag(name).unwrap()
}

fn set(text: &str) -> AttributeSet {
    text.parse().unwrap()
}

/// A formula without epoch and normal form: what the attacker meets, not what the language makes.
fn gate(k: usize, of: Vec<Formula>) -> Formula {
    Formula::Threshold { k, of }
}

fn leaf(name: &str) -> Formula {
    Formula::Attribute(flag(name))
}

/// A ciphertext's elements, read from its bytes.
struct Ciphertext {
    ct1: G2Affine,
    ct2: Vec<G2Affine>,
    ct3: Vec<G1>,
}

impl Ciphertext {
    fn read(bytes: &[u8], occurrences: usize) -> Self {
        let (g2, rest) = bytes.split_at(G2_BYTES * (1 + occurrences));
        let (g1, _) = rest.split_at(rest.len() - 32);
        let mut g2 = g2
            .as_chunks::<G2_BYTES>()
            .0
            .iter()
            .map(|b| G2Affine::from_bytes(b).unwrap());
        Self {
            ct1: g2.next().unwrap(),
            ct2: g2.collect(),
            ct3: g1
                .as_chunks::<G1_BYTES>()
                .0
                .iter()
                .map(|b| G1Affine::from_bytes(b).unwrap().to_jacobian())
                .collect(),
        }
    }
}

/// e(sk1, ct1) · e(held, ct2) · e(rows^-1, sk3): what every attack on one occurrence ends with.
fn finish((sk1, sk3): (&G1, &G2Affine), ciphertext: &Ciphertext, held: &G1, rows: &G1) -> Gt {
    multi_pairing(&[
        (sk1.to_affine(), ciphertext.ct1),
        (held.to_affine(), ciphertext.ct2[0]),
        (rows.inverse().to_affine(), *sk3),
    ])
}

/// The textbook scheme with the hash and the number of occurrences given, so that weaknesses can
/// be built in. Returns (sk1, sk2 by H(u)^r, sk3) and (ciphertext, d).
struct Textbook<'h> {
    alpha: Scalar,
    b: G1,
    hash: &'h dyn Fn(&Attribute) -> G1,
    single_occurrence: bool,
}

impl Textbook<'_> {
    fn key(&self, names: &[&str], rng: &mut ChaCha20Rng) -> (G1, Vec<G1>, G2Affine) {
        let r = Scalar::random(rng);
        (
            G1::generator().pow(&self.alpha).mul(&self.b.pow(&r)),
            names
                .iter()
                .map(|n| (self.hash)(&flag(n)).pow(&r))
                .collect(),
            G2::generator().pow(&r).to_affine(),
        )
    }

    fn encrypt(&self, formula: &Formula, rng: &mut ChaCha20Rng) -> (Ciphertext, Gt) {
        let matrix = ShareMatrix::new(formula).unwrap();
        let s = Scalar::random(rng);
        let occurrences: Vec<Scalar> = (0..matrix.occurrences())
            .map(|_| Scalar::random(rng))
            .collect();
        let shares = matrix.shares(&s, |_| Scalar::random(rng));
        let ct3 = matrix
            .rows()
            .iter()
            .zip(&shares)
            .map(|(row, share)| {
                let j = if self.single_occurrence {
                    0
                } else {
                    row.occurrence
                };
                let hashed = (self.hash)(row.attribute).pow(&occurrences[j]);
                self.b.pow(share).mul(&hashed)
            })
            .collect();
        let ciphertext = Ciphertext {
            ct1: G2::generator().pow(&s).to_affine(),
            ct2: occurrences
                .iter()
                .map(|x| G2::generator().pow(x).to_affine())
                .collect(),
            ct3,
        };
        let z = multi_pairing(&[(
            G1::generator().pow(&self.alpha).to_affine(),
            G2::generator().pow(&s).to_affine(),
        )]);
        (ciphertext, z)
    }
}

const DOMAIN: &[u8] = b"a domain for the textbook scheme";

fn sound_hash(attribute: &Attribute) -> G1 {
    G1::hash_to_curve(&attribute.encode(), DOMAIN)
}

/// The logarithm that a hash of the form g^SHA(x) gives away.
fn public_logarithm(attribute: &Attribute) -> Scalar {
    let mut wide = [0u8; WIDE_BYTES];
    wide[16..].copy_from_slice(&Sha256::digest(attribute.encode()));
    Scalar::from_wide(&wide)
}

fn weak_hash(attribute: &Attribute) -> G1 {
    G1::generator().pow(&public_logarithm(attribute))
}

/// The attack that breaks `rabe`: with known logarithms of the attributes' hashes, one harmless
/// attribute turns into any other.
#[test]
fn an_attribute_can_not_be_forged_from_another() {
    let mut rng = rng(1);
    let formula = gate(2, vec![leaf("secret"), leaf("top")]);
    let attack = |hash: &dyn Fn(&Attribute) -> G1, rng: &mut ChaCha20Rng| {
        let scheme = Textbook {
            alpha: Scalar::random(rng),
            b: G1::hash_to_curve(b"B", DOMAIN),
            hash,
            single_occurrence: false,
        };
        let (sk1, sk2, sk3) = scheme.key(&["harmless"], rng);
        let (ciphertext, d) = scheme.encrypt(&formula, rng);
        // The attacker: H(x)^r from H(harmless)^r, by the quotient of the logarithms it computes.
        let forge = |name: &str| {
            let own = public_logarithm(&flag("harmless")).inverse_vartime();
            sk2[0].pow(&public_logarithm(&flag(name)).mul(&own))
        };
        let held = forge("secret").mul(&forge("top"));
        let rows = ciphertext.ct3[0].mul(&ciphertext.ct3[1]);
        finish((&sk1, &sk3), &ciphertext, &held, &rows) == d
    };
    assert!(attack(&weak_hash, &mut rng), "the attack works on g^SHA(x)");
    assert!(!attack(&sound_hash, &mut rng), "and not on RFC 9380");
}

/// (a and b) and (a or c), attacked by a holder of b and c.
fn twice_a() -> Formula {
    gate(
        2,
        vec![
            gate(2, vec![leaf("a"), leaf("b")]),
            gate(1, vec![leaf("a"), leaf("c")]),
        ],
    )
}

/// Coefficients for the rows b, c and the difference of the two rows of a.
fn difference_attack() -> Vec<Scalar> {
    let formula = twice_a();
    let matrix = ShareMatrix::new(&formula).unwrap();
    let difference: Vec<Scalar> = matrix
        .dense(0)
        .iter()
        .zip(&matrix.dense(2))
        .map(|(x, y)| x.sub(y))
        .collect();
    linear::solve(
        &[matrix.dense(1), matrix.dense(3), difference],
        matrix.columns(),
    )
    .unwrap()
}

/// With one randomness for all occurrences of an attribute, the quotient of two of its rows is free
/// of it: a policy in which an attribute occurs twice opens without that attribute.
#[test]
fn repeated_attributes_do_not_leak_the_difference_of_their_shares() {
    let mut rng = rng(2);
    let formula = twice_a();
    let gammas = difference_attack();
    let attack = |single_occurrence: bool, rng: &mut ChaCha20Rng| {
        let scheme = Textbook {
            alpha: Scalar::random(rng),
            b: G1::hash_to_curve(b"B", DOMAIN),
            hash: &sound_hash,
            single_occurrence,
        };
        let (sk1, sk2, sk3) = scheme.key(&["b", "c"], rng);
        let (ciphertext, d) = scheme.encrypt(&formula, rng);
        let ct3 = &ciphertext.ct3;
        let quotient = ct3[0].mul(&ct3[2].inverse());
        let held = sk2[0].pow(&gammas[0]).mul(&sk2[1].pow(&gammas[1]));
        let rows = ct3[1]
            .pow(&gammas[0])
            .mul(&ct3[3].pow(&gammas[1]))
            .mul(&quotient.pow(&gammas[2]));
        finish((&sk1, &sk3), &ciphertext, &held, &rows) == d
    };
    assert!(
        attack(true, &mut rng),
        "the attack works with τ forced to 1"
    );
    assert!(!attack(false, &mut rng), "and not with ρ");
}

/// The same attack on this crate's ciphertexts and keys, with every combination of occurrences.
#[test]
fn the_crates_own_ciphertexts_resist_the_difference_attack() {
    let mut rng = rng(3);
    let (master, parameters) = cp::setup(&mut rng);
    let key = master.issue(&parameters, &set("b, c"), &mut rng).unwrap();
    let formula = twice_a();
    let (bytes, _) = parameters.encapsulate(&formula, &mut rng).unwrap();
    let ciphertext = Ciphertext::read(&bytes, 2);
    let (sk1, sk2, sk3) = key.elements();
    let d = {
        // What a holder of all three finds.
        let whole = master
            .issue(&parameters, &set("a, b, c"), &mut rng)
            .unwrap();
        whole.recover_with(&formula, &bytes)
    };
    let gammas = difference_attack();
    let quotient = ciphertext.ct3[0].mul(&ciphertext.ct3[2].inverse());
    let held = sk2[0].pow(&gammas[0]).mul(&sk2[1].pow(&gammas[1]));
    let rows = ciphertext.ct3[1]
        .pow(&gammas[0])
        .mul(&ciphertext.ct3[3].pow(&gammas[1]))
        .mul(&quotient.pow(&gammas[2]));
    for ct2 in [
        ciphertext.ct2.clone(),
        ciphertext.ct2.iter().rev().copied().collect(),
    ] {
        let turned = Ciphertext {
            ct1: ciphertext.ct1,
            ct2,
            ct3: ciphertext.ct3.clone(),
        };
        assert!(finish((&sk1, &sk3), &turned, &held, &rows) != d);
    }
}

/// A holder of an attribute whose element is B^r could divide it out of sk1 and be left with the
/// master key.
#[test]
fn no_attribute_reaches_the_reserved_hash_input() {
    let mut rng = rng(4);
    let (master, parameters) = cp::setup(&mut rng);
    let secret = G1Affine::from_bytes(master.to_bytes().last_chunk().unwrap()).unwrap();
    let names = ["B", "reserved", "0", "b", "00000001B", "\"B\""];
    let mut attributes = AttributeSet::new();
    for name in names {
        // What the language refuses can not be asked for.
        let spellings = [
            Attribute::flag(name),
            Attribute::value("B", name),
            Attribute::value(name, "B"),
        ];
        for attribute in spellings.into_iter().flatten() {
            attributes.insert(attribute).unwrap();
        }
    }
    attributes
        .insert(Attribute::integer("B", 66).unwrap())
        .unwrap();
    let key = master.issue(&parameters, &attributes, &mut rng).unwrap();
    let (sk1, sk2, _) = key.elements();
    assert!(sk2.len() > 12);
    for element in &sk2 {
        assert!(sk1.mul(&element.inverse()) != secret.to_jacobian());
        assert!(sk1.mul(element) != secret.to_jacobian());
    }
}

/// CIRCL's tkn20 gave one child of an AND gate the whole secret: whoever held that child alone
/// could open the ciphertext with coefficient one.
#[test]
fn no_single_row_of_an_and_gate_opens_it() {
    let mut rng = rng(5);
    let (master, parameters) = cp::setup(&mut rng);
    let names = ["a", "b", "c", "d"];
    let formula = gate(4, names.iter().map(|n| leaf(n)).collect());
    let (bytes, _) = parameters.encapsulate(&formula, &mut rng).unwrap();
    let ciphertext = Ciphertext::read(&bytes, 1);
    let whole = master
        .issue(&parameters, &set("a, b, c, d"), &mut rng)
        .unwrap();
    let d = whole.recover_with(&formula, &bytes);
    let key = master
        .issue(&parameters, &set("a, b, c"), &mut rng)
        .unwrap();
    let (sk1, sk2, sk3) = key.elements();
    // Every subset of the rows held, with coefficient one.
    for subset in 1u8..8 {
        let (mut held, mut rows) = (G1::neutral(), G1::neutral());
        for i in (0..3).filter(|i| subset >> i & 1 == 1) {
            held = held.mul(&sk2[i]);
            rows = rows.mul(&ciphertext.ct3[i]);
        }
        assert!(finish((&sk1, &sk3), &ciphertext, &held, &rows) != d);
        // The fourth row as well, without the element that would take its mask away.
        let rows = rows.mul(&ciphertext.ct3[3]);
        assert!(finish((&sk1, &sk3), &ciphertext, &held, &rows) != d);
    }
}

/// Two devices, each with half of what the policy asks for. Their elements have different r, and no
/// choice of sk1, sk3 and elements opens the ciphertext.
#[test]
fn pooled_elements_of_two_keys_open_nothing() {
    let mut rng = rng(6);
    let (master, parameters) = cp::setup(&mut rng);
    let formula = gate(2, vec![leaf("a"), leaf("b")]);
    let (bytes, _) = parameters.encapsulate(&formula, &mut rng).unwrap();
    let ciphertext = Ciphertext::read(&bytes, 1);
    let whole = master.issue(&parameters, &set("a, b"), &mut rng).unwrap();
    let d = whole.recover_with(&formula, &bytes);
    let one = master.issue(&parameters, &set("a"), &mut rng).unwrap();
    let two = master.issue(&parameters, &set("b"), &mut rng).unwrap();
    let (one, two) = (one.elements(), two.elements());
    let held = one.1[0].mul(&two.1[0]);
    let rows = ciphertext.ct3[0].mul(&ciphertext.ct3[1]);
    // The product of the two keys has randomness r1 + r2, and α twice: halve it.
    let half = Scalar::from_u64(2).inverse_vartime();
    let mean = one.0.mul(&two.0).pow(&half);
    for sk1 in [one.0, two.0, mean] {
        for sk3 in [one.2, two.2] {
            assert!(finish((&sk1, &sk3), &ciphertext, &held, &rows) != d);
            assert!(finish((&sk1, &sk3), &ciphertext, &held.pow(&half), &rows) != d);
        }
    }
    // Each row with the key that holds it.
    let apart = multi_pairing(&[
        (one.0.to_affine(), ciphertext.ct1),
        (one.1[0].to_affine(), ciphertext.ct2[0]),
        (ciphertext.ct3[0].inverse().to_affine(), one.2),
        (two.1[0].to_affine(), ciphertext.ct2[0]),
        (ciphertext.ct3[1].inverse().to_affine(), two.2),
    ]);
    assert!(apart != d);
}

/// A ciphertext's rows moved under a policy that the attacker satisfies: AC17 in `rabe` allowed it,
/// because its hash had a known logarithm. Here the elements can be moved, and then open to another
/// d, whatever the attacker multiplies in from what it knows.
#[test]
fn rows_do_not_move_to_another_attribute() {
    let mut rng = rng(7);
    let attack = |hash: &dyn Fn(&Attribute) -> G1, rng: &mut ChaCha20Rng| {
        let scheme = Textbook {
            alpha: Scalar::random(rng),
            b: G1::hash_to_curve(b"B", DOMAIN),
            hash,
            single_occurrence: false,
        };
        let (sk1, sk2, sk3) = scheme.key(&["mine"], rng);
        let (ciphertext, d) = scheme.encrypt(&leaf("yours"), rng);
        // Pretend the row is one of `mine`: raise the held element to the quotient of logarithms.
        let quotient = public_logarithm(&flag("yours"))
            .mul(&public_logarithm(&flag("mine")).inverse_vartime());
        [Scalar::one(), quotient].iter().any(|x| {
            finish(
                (&sk1, &sk3),
                &ciphertext,
                &sk2[0].pow(x),
                &ciphertext.ct3[0],
            ) == d
        })
    };
    assert!(attack(&weak_hash, &mut rng));
    assert!(!attack(&sound_hash, &mut rng));
}

/// The epoch is a conjunct wrapped around every policy. CIRCL wrapped its policies for chosen
/// ciphertexts in the same way, and its AND gave the wrapped policy the whole secret: the wrapper came
/// off. Attacked by a device that was revoked at the turn of the epoch, so that it holds everything but the
/// new epoch.
#[test]
fn the_wrapper_around_a_policy_does_not_come_off() {
    let mut rng = rng(9);
    let attack = |wrapped: &Formula, rng: &mut ChaCha20Rng| {
        let scheme = Textbook {
            alpha: Scalar::random(rng),
            b: G1::hash_to_curve(b"B", DOMAIN),
            hash: &sound_hash,
            single_occurrence: false,
        };
        let (sk1, sk2, sk3) = scheme.key(&["a"], rng);
        let (ciphertext, d) = scheme.encrypt(wrapped, rng);
        let finish = |held: &G1, rows: &G1| finish((&sk1, &sk3), &ciphertext, held, rows) == d;
        // The policy's row alone, as if nothing were around it; with the wrapper's row; without both.
        let both = ciphertext.ct3[0].mul(&ciphertext.ct3[1]);
        finish(&sk2[0], &ciphertext.ct3[0])
            || finish(&sk2[0], &both)
            || finish(&G1::neutral(), &G1::neutral())
    };
    let children = || {
        vec![
            leaf("a"),
            Formula::Attribute(Attribute::epoch(Epoch::new(2))),
        ]
    };
    assert!(
        attack(&gate(1, children()), &mut rng),
        "works on a gate that leaks"
    );
    let wrapped = leaf("a").at_epoch(Epoch::new(2));
    assert_eq!(wrapped, gate(2, children()));
    assert!(!attack(&wrapped, &mut rng), "and not on this one");
}

/// A wildcard in a key's topic filter stands for one level and has no row: what it must not become is a
/// joker for a level that the filter names, for several levels, or for none. The attacker sets the
/// key's rows against the labels of messages that the filter does not match: every subset of the rows,
/// each with its own label's element or, where the message has none, with any other or without.
#[test]
fn wildcards_match_no_level_that_the_filter_names() {
    let mut rng = rng(10);
    let (master, parameters) = kp::setup(&mut rng);
    let policy: Policy = "topic matches house/+/temperature".parse().unwrap();
    let Formula::Threshold { of: rows, .. } = policy.formula().clone() else {
        panic!("a conjunction of levels and depth");
    };
    let sound = gate(rows.len(), rows.clone());
    let leaking = gate(1, rows.clone());
    assert_eq!(&sound, policy.formula());
    let topics = [
        "house/kitchen/humidity",
        "garden/kitchen/temperature",
        "house/kitchen/oven/temperature",
        "house/temperature",
    ];
    for topic in topics {
        let labels = AttributeSet::new().with_topic(topic).unwrap();
        assert!(!policy.evaluate(&labels), "{topic}");
        let (ciphertext, shared) = parameters.encapsulate(&labels, &mut rng).unwrap();
        let whole = labels
            .iter()
            .next()
            .cloned()
            .map(Formula::Attribute)
            .unwrap();
        let whole = master.issue(&parameters, &whole, &mut rng).unwrap();
        assert!(
            whole
                .decapsulate(&parameters, &labels, &ciphertext)
                .unwrap()
                == shared
        );
        let d = whole.recover_with(&labels, &ciphertext);

        let ct1 = G2Affine::from_bytes(ciphertext.first_chunk().unwrap()).unwrap();
        let (ct2, _) = ciphertext[G2_BYTES..].as_chunks::<G1_BYTES>();
        let labels: Vec<_> = labels
            .iter()
            .zip(ct2)
            .map(|(a, b)| (a.clone(), G1Affine::from_bytes(b).unwrap().to_jacobian()))
            .collect();
        let mut attack = |formula: &Formula| {
            let key = master.issue(&parameters, formula, &mut rng).unwrap();
            let (sk1, sk2) = key.elements();
            let mut jokers: Vec<G1> = labels.iter().map(|(_, element)| *element).collect();
            jokers.push(G1::neutral());
            (1..1u32 << rows.len()).any(|subset| {
                jokers.iter().any(|joker| {
                    let (mut secret, mut label) = (G1::neutral(), G1::neutral());
                    for i in (0..rows.len()).filter(|i| subset >> i & 1 == 1) {
                        let own = labels
                            .iter()
                            .find(|(name, _)| rows[i] == Formula::Attribute(name.clone()));
                        secret = secret.mul(&sk1[i]);
                        label = label.mul(own.map_or(joker, |(_, element)| element));
                    }
                    let pairs = [
                        (secret.to_affine(), ct1),
                        (label.inverse().to_affine(), sk2[0]),
                    ];
                    multi_pairing(&pairs) == d
                })
            })
        };
        assert!(attack(&leaking), "{topic}: works where rows leak");
        assert!(!attack(&sound), "{topic}");
    }
}

/// Decapsulation by plain linear algebra in place of the tree: whatever Gaussian elimination finds
/// opens the ciphertext, and it finds something exactly where the policy is satisfied.
#[test]
fn any_solution_of_the_linear_system_opens_the_ciphertext() {
    let mut rng = rng(8);
    let (master, parameters) = cp::setup(&mut rng);
    for (policy, held) in [
        ("2 of (a, b, c) and d", "a, c, d"),
        ("2 of (a, b, c) and d", "a, b, c, d"),
        ("(a and b) or (a and c) or (b and c and d)", "a, b, c, d"),
        ("3 of (a, b, c and d, e)", "a, c, d, e"),
    ] {
        let formula = policy.parse::<Policy>().unwrap().formula().clone();
        let (bytes, _) = parameters.encapsulate(&formula, &mut rng).unwrap();
        let key = master.issue(&parameters, &set(held), &mut rng).unwrap();
        let matrix = ShareMatrix::new(&formula).unwrap();
        let rows: Vec<usize> = (0..matrix.rows().len())
            .filter(|&i| key.attributes().contains(matrix.rows()[i].attribute))
            .collect();
        let vectors: Vec<_> = rows.iter().map(|&i| matrix.dense(i)).collect();
        let gammas = linear::solve(&vectors, matrix.columns()).unwrap();
        let opening: Vec<_> = rows.into_iter().zip(gammas).collect();
        let by_algebra = key.recover_by(&matrix, &opening, &bytes);
        assert!(by_algebra == key.recover_with(&formula, &bytes), "{policy}");
    }
}
