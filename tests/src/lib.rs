//! End-to-end suites that start the real programs.
