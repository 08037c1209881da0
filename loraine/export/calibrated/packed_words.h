// Codes as the files of GPTQ and AWQ have them: io/quantised reads what is written here. Facts: gptqmodel's nn_modules/qlinear, autoawq's
// modules/linear/gemm.
#pragma once
#include <string>
#include <vector>

#include "loraine/export/calibrated/packed_spool.h"
#include "loraine/quant/gptq.h"

namespace loraine {

// P.qweight, P.qzeros, P.scales and P.g_idx of module P with a weight [out, in], format "gptq" (zeros less one). out and in: multiples of
// 32.
void add_gptq(PackedSpool& spool, const std::string& module, const GroupCodes& codes, int64_t out, int64_t in, const GroupScheme& scheme);
// P.qweight, P.qzeros and P.scales of AWQ's version gemm, 4 bits. in: a multiple of group_size, out: of 8.
void add_awq(PackedSpool& spool, const std::string& module, const GroupCodes& codes, int64_t out, int64_t in, const GroupScheme& scheme);

}  // namespace loraine
