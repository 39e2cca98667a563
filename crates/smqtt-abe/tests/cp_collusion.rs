//! Devices that pool their keys, byte by byte.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod support;

use smqtt_abe::cp;
use support::{CpAuthority, attributes, fields, formula, rng};

/// An object of these byte strings, as the crate spells it.
fn object(fields: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![0x80 + 2 + fields.len() as u8, 1, 1];
    for field in fields {
        match field.len() {
            n @ 0..24 => out.push(0x40 + n as u8),
            n @ 24..256 => out.extend([0x58, n as u8]),
            n => {
                out.push(0x59);
                out.extend((n as u16).to_be_bytes());
            }
        }
        out.extend_from_slice(field);
    }
    out
}

/// The two keys' elements for every attribute of the union, with the single elements of one or the
/// other: a key that decodes, that claims to be authorised, and that opens nothing.
#[test]
fn a_key_put_together_from_two_opens_nothing() {
    let authority = CpAuthority::new(1);
    let policy = formula("role = doctor and dept = icu");
    let (ciphertext, shared) = authority
        .parameters
        .encapsulate(&policy, &mut rng(2))
        .unwrap();
    let issue = |text: &str, seed| {
        authority
            .master
            .issue(&authority.parameters, &attributes(text), &mut rng(seed))
            .unwrap()
    };
    let doctor = issue("role = doctor, dept = er", 3);
    let nurse = issue("role = nurse, dept = icu", 4);
    for key in [&doctor, &nurse] {
        let refused = key.decapsulate(&authority.parameters, &policy, &ciphertext);
        assert_eq!(refused.err(), Some(smqtt_abe::Error::NotAuthorised));
    }

    let element = |key: &cp::AttributeKey, name: &str, bytes: &[u8], sk2: usize| {
        let attribute = attributes(name);
        let wanted = attribute.stated().next().unwrap();
        let place = key.attributes().iter().position(|a| a == wanted).unwrap();
        bytes[sk2 + 48 * place..sk2 + 48 * (place + 1)].to_vec()
    };
    let (d, n) = (doctor.to_bytes(), nurse.to_bytes());
    let [hash, _, rejection, sk1, sk3, sk2] = fields(&d).try_into().unwrap();
    let [_, _, _, n_sk1, n_sk3, n_sk2] = fields(&n).try_into().unwrap();
    let union = attributes("role = doctor, dept = icu");
    let mut pooled = Vec::new();
    for attribute in union.iter() {
        if let Some(epoch) = attribute.as_epoch() {
            assert_eq!(Some(epoch), doctor.epoch());
            let place = doctor
                .attributes()
                .iter()
                .position(|a| a == attribute)
                .unwrap();
            pooled.extend_from_slice(&d[sk2.start + 48 * place..sk2.start + 48 * (place + 1)]);
        } else if attribute.text() == Some("doctor") {
            pooled.extend(element(&doctor, "role = doctor", &d, sk2.start));
        } else {
            pooled.extend(element(&nurse, "dept = icu", &n, n_sk2.start));
        }
    }
    for sk1 in [&d[sk1], &n[n_sk1]] {
        for sk3 in [&d[sk3.clone()], &n[n_sk3.clone()]] {
            let bytes = object(&[
                &d[hash.clone()],
                &union.encode(),
                &d[rejection.clone()],
                sk1,
                sk3,
                &pooled,
            ]);
            let key = cp::AttributeKey::from_bytes(&bytes, &authority.parameters).unwrap();
            let found = key.decapsulate(&authority.parameters, &policy, &ciphertext);
            assert!(found.unwrap() != shared);
        }
    }
}

/// A revoked device that still has the current epoch's element from another device.
#[test]
fn the_epoch_of_another_key_can_not_be_borrowed() {
    let authority = CpAuthority::new(1);
    let policy = formula("role = doctor");
    let (ciphertext, shared) = authority
        .parameters
        .encapsulate(&policy, &mut rng(2))
        .unwrap();
    let old_set = attributes("role = doctor").with_epoch(smqtt_policy::Epoch::new(0));
    let old = authority.key_of(&old_set).to_bytes();
    let visitor = authority
        .master
        .issue(
            &authority.parameters,
            &attributes("role = visitor"),
            &mut rng(9),
        )
        .unwrap()
        .to_bytes();
    let new_set = attributes("role = doctor");
    let epoch =
        |set: &smqtt_policy::AttributeSet| set.iter().position(|a| a.as_epoch().is_some()).unwrap();
    let visitor_epoch = {
        let sk2 = fields(&visitor)[5].clone();
        let place = epoch(&attributes("role = visitor"));
        visitor[sk2.start + 48 * place..sk2.start + 48 * (place + 1)].to_vec()
    };
    let f = fields(&old);
    let mut sk2 = old[f[5].clone()].to_vec();
    let place = epoch(&new_set);
    sk2[48 * place..48 * (place + 1)].copy_from_slice(&visitor_epoch);
    let bytes = object(&[
        &old[f[0].clone()],
        &new_set.encode(),
        &old[f[2].clone()],
        &old[f[3].clone()],
        &old[f[4].clone()],
        &sk2,
    ]);
    let key = cp::AttributeKey::from_bytes(&bytes, &authority.parameters).unwrap();
    let found = key.decapsulate(&authority.parameters, &policy, &ciphertext);
    assert!(found.unwrap() != shared);
}
