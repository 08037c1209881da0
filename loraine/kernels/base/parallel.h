// Pieces of parallel loops over rows.
#pragma once
#include "loraine/core/parallel.h"

namespace loraine {

// Rows per chunk so that a chunk holds about 16k elements.
inline int64_t row_chunk(int64_t cols) { return cols >= 16384 ? 1 : 16384 / (cols > 0 ? cols : 1) + 1; }

}  // namespace loraine
