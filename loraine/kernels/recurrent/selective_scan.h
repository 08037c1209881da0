// The selective scan of Mamba (Gu and Dao 2023). Per channel c, with a state h [state] in f32: dt = softplus(dt_raw);
// h_n ← exp(dt · A_n) h_n + dt · B_n · x, A = −exp(A_log); y = Σ_n C_n h_n + D x.
#pragma once
#include "loraine/core/context.h"
#include "loraine/kernels/recurrent/recurrent_state.h"

namespace loraine {

struct SelectiveScanShape {
  int64_t channels = 0, state = 0;
  int64_t state_columns() const { return channels * state; }
};

// y, x, dt_raw (its bias added) [T, channels], B, C [T, state], each F32 or BF16 by itself, rows may be strided; A_log F32 [channels,
// state], D F32 [channels]. borders [recurrent_border_rows(T), state_columns] F32 is what the backward needs; may have data == nullptr. A
// state has state_columns columns.
void selective_scan(Context& ctx, const Tensor& y, const Tensor& borders, const Tensor& x, const Tensor& B, const Tensor& C,
                    const Tensor& dt_raw, const Tensor& A_log, const Tensor& D, std::span<const Sequence> sequences,
                    const SelectiveScanShape& shape, const RecurrentState& state = {});
// Overwrites d_x, d_B, d_C, d_dt_raw (F32 or BF16 each), of training: all sequences are whole. Adds to d_A_log and d_D, of the shapes of
// A_log and D, where they have data. partial [T, selective_scan_partial_columns] F32, contiguous, is room for what parts of the channels
// give B and C before it is added up.
void selective_scan_backward(Context& ctx, const Tensor& d_x, const Tensor& d_B, const Tensor& d_C, const Tensor& d_dt_raw,
                             const Tensor& d_A_log, const Tensor& d_D, const Tensor& d_y, const Tensor& borders, const Tensor& x,
                             const Tensor& B, const Tensor& C, const Tensor& dt_raw, const Tensor& A_log, const Tensor& D,
                             std::span<const Sequence> sequences, const SelectiveScanShape& shape, const Tensor& partial);
int64_t selective_scan_partial_columns(const SelectiveScanShape& shape);
size_t selective_scan_bytes(const SelectiveScanShape& shape);  // what each thread keeps for both

}  // namespace loraine
