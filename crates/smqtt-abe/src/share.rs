//! Linear secret sharing: from a policy to a share matrix and back to the secret.
//!
//! Row i of the matrix `M` belongs to leaf i of the policy, read from left to right. The shares of
//! a vector (secret, v₂, …) are λᵢ = Mᵢ·(secret, v₂, …). A set of rows is authorised if and only
//! if (1, 0, …, 0) is in its span.
//!
//! A node that has to share the vector `u` among n children, any k of which suffice, gives them:
//!
//! - k = 1: `u` to each;
//! - k = n: `u + e₁`, `-e₁ + e₂`, …, `-eₙ₋₁` (fresh columns e), which sum to `u`: all coefficients
//!   are one, and opening costs no exponentiation;
//! - else: `u + x·e₁ + x²·e₂ + … + xᵏ⁻¹·eₖ₋₁` for child x = 1, …, n, opened by Lagrange's formula.

use std::collections::HashMap;

use smqtt_policy::{Attribute, Formula};

use crate::{curve::Scalar, error::Error, limits::MAX_ENTRIES};

/// A sparse vector: (column, entry), columns ascending.
type Vector = Vec<(usize, Scalar)>;

/// One row of a share matrix.
pub(crate) struct Row<'f> {
    /// π(i).
    pub(crate) attribute: &'f Attribute,
    /// ρ(i) - 1: how many earlier rows have this attribute.
    pub(crate) occurrence: usize,
    entries: Vector,
}

impl Row<'_> {
    /// Whether the secret itself is a summand of this row's share. Its coefficient then is one: the
    /// secret's column is never scaled on its way down the tree.
    pub(crate) fn takes_secret(&self) -> bool {
        self.entries.first().is_some_and(|(column, _)| *column == 0)
    }
}

/// The share matrix of a policy.
pub(crate) struct ShareMatrix<'f> {
    formula: &'f Formula,
    rows: Vec<Row<'f>>,
    columns: usize,
    occurrences: usize,
}

impl<'f> ShareMatrix<'f> {
    /// Builds the matrix; every bound is checked before the work it bounds.
    ///
    /// # Errors
    /// The policy is out of bounds, or has a threshold that makes no sense.
    pub(crate) fn new(formula: &'f Formula) -> Result<Self, Error> {
        formula.check()?;
        let mut builder = Builder {
            seen: HashMap::new(),
            entries: 0,
            matrix: Self {
                formula,
                rows: Vec::with_capacity(formula.rows()),
                columns: 1,
                occurrences: 0,
            },
        };
        builder.share(formula, vec![(0, Scalar::one())])?;
        Ok(builder.matrix)
    }

    /// The rows, in the order of the policy's leaves.
    pub(crate) fn rows(&self) -> &[Row<'f>] {
        &self.rows
    }

    /// τ, the largest number of occurrences of one attribute.
    pub(crate) fn occurrences(&self) -> usize {
        self.occurrences
    }

    /// The shares λ of `secret`; `random(j)` gives v_j for j = 1, 2, ….
    pub(crate) fn shares(
        &self,
        secret: &Scalar,
        mut random: impl FnMut(usize) -> Scalar,
    ) -> Vec<Scalar> {
        let mut vector = Vec::with_capacity(self.columns);
        vector.push(secret.clone());
        vector.extend((1..self.columns).map(&mut random));
        self.rows
            .iter()
            .map(|row| {
                row.entries
                    .iter()
                    .fold(Scalar::zero(), |sum, (column, entry)| {
                        sum.add(&entry.mul(&vector[*column]))
                    })
            })
            .collect()
    }

    /// Rows and coefficients γ with Σ γᵢ·Mᵢ = (1, 0, …, 0), as few rows as the policy allows, or
    /// `None` where the held rows do not span it.
    pub(crate) fn open(&self, held: impl Fn(&Row<'f>) -> bool) -> Option<Vec<(usize, Scalar)>> {
        let held: Vec<bool> = self.rows.iter().map(held).collect();
        open(self.formula, &held, &mut 0)
    }
}

struct Builder<'f> {
    seen: HashMap<&'f Attribute, usize>,
    entries: usize,
    matrix: ShareMatrix<'f>,
}

impl<'f> Builder<'f> {
    fn share(&mut self, formula: &'f Formula, vector: Vector) -> Result<(), Error> {
        match formula {
            Formula::Attribute(attribute) => self.row(attribute, vector),
            Formula::Threshold { k: 1, of } => of
                .iter()
                .try_for_each(|child| self.share(child, vector.clone())),
            Formula::Threshold { k, of } if *k == of.len() => {
                let first = self.fresh_columns(k - 1);
                let mut part = vector;
                for (i, child) in of.iter().enumerate() {
                    if i + 1 < of.len() {
                        part.push((first + i, Scalar::one()));
                    }
                    self.share(child, part)?;
                    part = vec![(first + i, Scalar::one().neg())];
                }
                Ok(())
            }
            Formula::Threshold { k, of } => {
                let first = self.fresh_columns(k - 1);
                for (x, child) in (1..).zip(of) {
                    let x = Scalar::from_u64(x);
                    let mut part = vector.clone();
                    let mut power = Scalar::one();
                    for column in first..first + k - 1 {
                        power = power.mul(&x);
                        part.push((column, power.clone()));
                    }
                    self.share(child, part)?;
                }
                Ok(())
            }
        }
    }

    fn fresh_columns(&mut self, count: usize) -> usize {
        let first = self.matrix.columns;
        self.matrix.columns += count;
        first
    }

    fn row(&mut self, attribute: &'f Attribute, entries: Vector) -> Result<(), Error> {
        self.entries += entries.len();
        if self.entries > MAX_ENTRIES {
            return Err(Error::TooManyEntries);
        }
        let count = self.seen.entry(attribute).or_default();
        let occurrence = *count;
        *count += 1;
        self.matrix.occurrences = self.matrix.occurrences.max(*count);
        self.matrix.rows.push(Row {
            attribute,
            occurrence,
            entries,
        });
        Ok(())
    }
}

fn open(formula: &Formula, held: &[bool], next: &mut usize) -> Option<Vec<(usize, Scalar)>> {
    match formula {
        Formula::Attribute(_) => {
            let row = *next;
            *next += 1;
            held[row].then(|| vec![(row, Scalar::one())])
        }
        Formula::Threshold { k, of } => {
            let mut opened: Vec<(u64, Vec<(usize, Scalar)>)> = (1..)
                .zip(of)
                .filter_map(|(x, child)| open(child, held, next).map(|rows| (x, rows)))
                .collect();
            if opened.len() < *k {
                return None;
            }
            // The fewest rows; the sort is stable, so the choice does not depend on anything else.
            opened.sort_by_key(|(_, rows)| rows.len());
            opened.truncate(*k);
            if *k == 1 || *k == of.len() {
                return Some(opened.into_iter().flat_map(|(_, rows)| rows).collect());
            }
            let points: Vec<u64> = opened.iter().map(|(x, _)| *x).collect();
            Some(
                opened
                    .into_iter()
                    .flat_map(|(x, rows)| {
                        let coefficient = lagrange_at_zero(x, &points);
                        rows.into_iter()
                            .map(move |(row, gamma)| (row, gamma.mul(&coefficient)))
                    })
                    .collect(),
            )
        }
    }
}

/// Π x_j / (x_j - x) over the other points.
fn lagrange_at_zero(x: u64, points: &[u64]) -> Scalar {
    let (mut numerator, mut denominator) = (Scalar::one(), Scalar::one());
    for &other in points.iter().filter(|&&other| other != x) {
        let other = Scalar::from_u64(other);
        denominator = denominator.mul(&other.sub(&Scalar::from_u64(x)));
        numerator = numerator.mul(&other);
    }
    numerator.mul(&denominator.inverse_vartime())
}

#[cfg(test)]
pub(crate) mod linear {
    //! The attacker's view: plain linear algebra on the rows, without the policy's tree.

    use super::*;

    /// Coefficients γ with Σ γᵢ·vectorᵢ = (1, 0, …, 0), found by Gaussian elimination, or `None`
    /// where there are none.
    pub(crate) fn solve(vectors: &[Vec<Scalar>], columns: usize) -> Option<Vec<Scalar>> {
        let zero = Scalar::zero();
        // One equation a column, one unknown a vector, the target on the right.
        let mut equations: Vec<Vec<Scalar>> = (0..columns)
            .map(|column| {
                let target = if column == 0 {
                    Scalar::one()
                } else {
                    zero.clone()
                };
                let mut equation: Vec<Scalar> = vectors.iter().map(|v| v[column].clone()).collect();
                equation.push(target);
                equation
            })
            .collect();
        let unknowns = vectors.len();
        let mut pivots = Vec::new();
        for unknown in 0..unknowns {
            let done = pivots.len();
            let Some(found) = (done..columns).find(|&e| equations[e][unknown] != zero) else {
                continue;
            };
            equations.swap(done, found);
            let scale = equations[done][unknown].inverse_vartime();
            for entry in &mut equations[done] {
                *entry = entry.mul(&scale);
            }
            let pivot = equations[done].clone();
            for (i, equation) in equations.iter_mut().enumerate() {
                let factor = equation[unknown].clone();
                if i != done && factor != zero {
                    for (entry, p) in equation.iter_mut().zip(&pivot) {
                        *entry = entry.sub(&factor.mul(p));
                    }
                }
            }
            pivots.push(unknown);
        }
        if equations[pivots.len()..]
            .iter()
            .any(|e| e[unknowns] != zero)
        {
            return None;
        }
        let mut solution = vec![zero; unknowns];
        for (equation, unknown) in equations.iter().zip(pivots) {
            solution[unknown] = equation[unknowns].clone();
        }
        Some(solution)
    }

    impl ShareMatrix<'_> {
        pub(crate) fn columns(&self) -> usize {
            self.columns
        }

        /// Row `i` with its zeros.
        pub(crate) fn dense(&self, i: usize) -> Vec<Scalar> {
            let mut out = vec![Scalar::zero(); self.columns];
            for (column, entry) in &self.rows[i].entries {
                out[*column] = out[*column].add(entry);
            }
            out
        }

        /// Σ γᵢ·Mᵢ.
        pub(crate) fn combine(&self, opening: &[(usize, Scalar)]) -> Vec<Scalar> {
            let mut sum = vec![Scalar::zero(); self.columns];
            for (i, gamma) in opening {
                for (s, entry) in sum.iter_mut().zip(self.dense(*i)) {
                    *s = s.add(&entry.mul(gamma));
                }
            }
            sum
        }
    }
}

#[cfg(test)]
mod tests;
