//! Client and server connections against each other, and against bytes, in virtual time.

mod authentication;
mod delivery;
mod flow_control;
mod handshake;
mod keep_alive;
mod limits;
mod pair;
mod reconnect;
mod topic_alias;
mod violations;
