//! The codec against the specifications, against itself and against an established one.

mod arbitrary_bytes;
mod differential;
mod encode_refuses;
mod examples;
mod fan_out;
mod generate;
mod malformed;
mod round_trip;
