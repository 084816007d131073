//! Seals, uploads and closes admission before a restart.
