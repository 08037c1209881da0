// One single-threaded f32 product on oneDNN; called by matmul and attention on fixed tiles inside their own parallel loops.
#pragma once
#include <cstdint>

namespace loraine {

// c [m, n] = alpha · op(a) op(b) + beta · c; op(a) is [m, k], op(b) is [k, n]; row-major, `t` = stored transposed.
void sgemm_tile(bool a_t, bool b_t, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda, const float* b, int64_t ldb,
                float beta, float* c, int64_t ldc);

}  // namespace loraine
