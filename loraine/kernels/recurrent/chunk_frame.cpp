// Checks and states of the ops over chunks.
#include "loraine/kernels/recurrent/chunk_frame.h"

namespace loraine {

void check_recurrence(const char* op, int64_t T, std::span<const Sequence> sequences, const Tensor& borders, const RecurrentState& state,
                      int64_t columns) {
  if (borders.data) {  // planned for the largest batch of a run: there may be more
    check_op(borders.rows() >= recurrent_border_rows(T), op, "there are fewer borders than the batch has chunks");
    check_f32(op, "borders", borders, borders.rows(), columns);
  }
  if (state.states.data) {
    check_f32(op, "states", state.states, state.states.rows(), columns);
    check_op(state.slots.size() == sequences.size(), op, "there must be one slot for each sequence");
    for (int64_t slot : state.slots) check_op(slot >= 0 && slot < state.states.rows(), op, "a slot lies outside the states");
  }
  for (const Sequence& s : sequences) {
    check_op(s.start >= 0 && s.length >= 0 && s.start <= T - s.length && s.kv_length >= s.length, op, "a sequence lies outside the batch");
    check_op(state.states.data || s.kv_length == s.length, op, "a sequence that goes on needs a state");
  }
}

std::vector<RecurrentRows> recurrent_rows(std::span<const Sequence> sequences, const RecurrentState& state) {
  std::vector<RecurrentRows> out;
  int64_t border = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const Sequence& s = sequences[i];
    float* slot = state.states.data ? state.states.f32() + state.slots[i] * state.states.row_stride : nullptr;
    if (s.length > 0) out.push_back({&s, border, slot, s.kv_length > s.length});
    border += borders_of(s);
  }
  return out;
}

void state_from_slot(const ChunkShape& shape, float* tile, const float* slot) {
  const int64_t K = shape.key_dim, V = shape.value_dim;
  for (int64_t h = 0; h < shape.heads; ++h)
    for (int64_t c = 0; c < K; ++c) std::copy_n(slot + (h * K + c) * V, V, tile + c * shape.width() + h * V);
}

void state_to_slot(const ChunkShape& shape, float* slot, const float* tile) {
  const int64_t K = shape.key_dim, V = shape.value_dim;
  for (int64_t h = 0; h < shape.heads; ++h)
    for (int64_t c = 0; c < K; ++c) std::copy_n(tile + c * shape.width() + h * V, V, slot + (h * K + c) * V);
}

}  // namespace loraine
