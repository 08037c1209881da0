// oneDNN's sgemm held to one thread, so that K is never split by the number of threads.
#include "loraine/kernels/products/sgemm.h"

#include <dnnl.h>
#include <omp.h>

#include "loraine/core/error.h"

namespace loraine {

void sgemm_tile(bool a_t, bool b_t, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda, const float* b, int64_t ldb,
                float beta, float* c, int64_t ldc) {
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  dnnl_status_t status = dnnl_sgemm(a_t ? 'T' : 'N', b_t ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  omp_set_num_threads(threads);
  if (status == dnnl_out_of_memory) throw Error(ErrorKind::out_of_memory, "matmul: oneDNN has no memory for its packed tiles");
  if (status != dnnl_success) throw Error(ErrorKind::internal, "matmul: oneDNN refused the product");
}

}  // namespace loraine
