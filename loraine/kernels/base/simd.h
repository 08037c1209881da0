// What the CPU kernels need to be vectorised by the compiler: function clones per instruction set. Loops with e^x are in exp_rows.
#pragma once

// One copy of the function per x86-64 level, picked when the program is loaded. Sanitizers run before that choice can be made.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define LORAINE_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), noinline, optimize("O3")))
#else
#define LORAINE_CLONES __attribute__((noinline))
#endif
