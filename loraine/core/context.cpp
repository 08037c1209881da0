// Thread count of the OpenMP pool.
#include "loraine/core/context.h"

#include <omp.h>

namespace loraine {

int thread_count() { return omp_get_max_threads(); }

}  // namespace loraine
