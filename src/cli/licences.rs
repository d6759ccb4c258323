//! `bandsync licences`: the licences of all code in this program.

use std::process::ExitCode;

use crate::ops::process::print_line;

/// The licences of all packages, by `tools licences`. Plain text of 86 kB, because a repository
/// stores a changed line of it in a few bytes, and a changed archive anew.
const LICENCES: &str = include_str!("../licences.txt");

/// The notice for a binary that contains the C library.
const STATIC: &str = "\
This binary contains the GNU C Library, Copyright (C) Free Software Foundation, Inc., under the
GNU Lesser General Public License 2.1 or later (https://www.gnu.org/licenses/lgpl-2.1.html; it is
also in the archive of this release). To link the program with another version of that library,
build it from its source.
";

/// Prints all licences.
pub fn run() -> ExitCode {
    if cfg!(all(target_env = "gnu", target_feature = "crt-static")) {
        print_line(STATIC);
    }
    print_line(LICENCES.trim_end());
    ExitCode::SUCCESS
}
