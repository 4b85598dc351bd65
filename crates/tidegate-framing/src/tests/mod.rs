//! Tests of codecs, and of the way in which frames are made of pieces, without connections.

mod asked;
mod cuts;
mod feed;
mod fuzz;
mod malformed;
mod memory;
mod round_trip;
