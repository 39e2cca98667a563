//! A policy as it was written: the syntax tree, with places.

use std::ops::Range;
use std::sync::Arc;

use crate::Scale;
use crate::lexer::Operator;
use crate::topic::Filter;

/// A part of a policy and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) kind: ExprKind,
    pub(crate) span: Range<usize>,
}

#[derive(Clone, Debug)]
pub(crate) enum ExprKind {
    And(Vec<Expr>),
    Or(Vec<Expr>),
    AtLeast {
        k: usize,
        of: Vec<Expr>,
    },
    Not(Box<Expr>),
    Flag(Name),
    Compare {
        name: Name,
        operator: Operator,
        value: Literal,
    },
    /// `name in lo..hi`
    Range {
        name: Name,
        lo: Literal,
        hi: Literal,
    },
    /// `name in (a, b, c)`
    OneOf {
        name: Name,
        values: Vec<Literal>,
    },
    TopicMatches(Filter),
}

/// An attribute's name in canonical form.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub(crate) text: Arc<str>,
    pub(crate) span: Range<usize>,
}

/// A value as written. What it is may depend on the schema: `room = 101` is a text where the schema
/// says so.
#[derive(Clone, Debug)]
pub(crate) struct Literal {
    /// The text in canonical form.
    pub(crate) text: Arc<str>,
    /// What the text stands for, if it is unquoted and has the form of a number, date or time.
    pub(crate) number: Option<(Scale, i64)>,
    pub(crate) span: Range<usize>,
}
