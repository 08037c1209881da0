// Mamba's scan on the CPU. A work item is one sequence and a part of the channels, which goes through them in blocks whose states fit the
// nearest cache; states lie with the channels of a block side by side. The parts give B and C sums of their own, which are added up in
// ascending order afterwards. Where A_log or D is trained, one thread takes a part of the channels of all sequences in turn.
#include <cmath>

#include "loraine/kernels/activations/exp_rows.h"
#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/recurrent/chunk_frame.h"
#include "loraine/kernels/recurrent/recurrent_gates.h"
#include "loraine/kernels/recurrent/selective_scan.h"

namespace loraine {
namespace {

constexpr int64_t kBlock = 32;      // channels
constexpr int64_t kMostParts = 16;  // of the channels

struct Inputs {
  const Tensor &x, &B, &C, &dt_raw, &A_log, &D;
  const SelectiveScanShape& shape;
};

int64_t parts_of(const SelectiveScanShape& s) { return std::min(kMostParts, (s.channels + kBlock - 1) / kBlock); }

struct Item {
  RecurrentRows rows;
  int64_t part, channel, end;
};

std::vector<Item> items_of(std::span<const Sequence> sequences, const RecurrentState& state, const SelectiveScanShape& s) {
  const int64_t blocks = (s.channels + kBlock - 1) / kBlock, parts = parts_of(s);
  std::vector<Item> items;
  for (const RecurrentRows& rows : recurrent_rows(sequences, state))
    for (int64_t p = 0; p < parts; ++p)
      items.push_back({rows, p, p * blocks / parts * kBlock, std::min(s.channels, (p + 1) * blocks / parts * kBlock)});
  return items;
}

// Tiles of a block of `width` channels and up to kRecurrentChunk rows.
struct Room {
  float *A, *state, *d_state;    // [state, width]
  float *d_A, *d_D;              // [state, width], of A_log; [width]
  float *x, *dt, *free, *u, *y;  // [rows, width]; u = dt x; free: dt_raw
  float *B, *C;                  // [rows, state]
  float *states, *decays;        // [rows + 1, state, width] before each row, and after the last; [rows, state, width]
  float *d_y, *d_u, *d_dt;       // [rows, width]
  static int64_t floats(int64_t N, bool backward) {
    const int64_t C = kRecurrentChunk;
    return (4 * N + 1) * kBlock + 8 * C * kBlock + 2 * C * N + (backward ? 2 * C + 1 : 2) * N * kBlock;
  }
  Room(float* memory, int64_t N, bool backward) {
    const int64_t rows = kRecurrentChunk;
    auto take = [&](int64_t n) {
      float* at = memory;
      memory += n;
      return at;
    };
    for (float** tile : {&A, &state, &d_state, &d_A}) *tile = take(N * kBlock);
    d_D = take(kBlock);
    for (float** tile : {&x, &dt, &free, &u, &y, &d_y, &d_u, &d_dt}) *tile = take(rows * kBlock);
    for (float** tile : {&B, &C}) *tile = take(rows * N);
    decays = take((backward ? rows : 1) * N * kBlock);
    states = take((backward ? rows + 1 : 1) * N * kBlock);
  }
};

// A block of channels.
struct Block {
  int64_t channel, width;
};

void begin_block(const Inputs& in, const Block& b, const Room& r) {
  const int64_t N = in.shape.state;
  for (int64_t c = 0; c < b.width; ++c)
    for (int64_t n = 0; n < N; ++n) r.A[n * b.width + c] = in.A_log.f32()[(b.channel + c) * in.A_log.row_stride + n];
  exp_row(r.A, N * b.width, 1, 0);
  scale_row(r.A, N * b.width, -1);
}

void load_rows(const Inputs& in, const Block& b, const Room& r, int64_t first, int64_t rows) {
  read_tile(r.x, in.x.col_range(b.channel, b.width), first, rows);
  read_tile(r.free, in.dt_raw.col_range(b.channel, b.width), first, rows);
  read_tile(r.B, in.B, first, rows);
  read_tile(r.C, in.C, first, rows);
  softplus_row(r.dt, r.free, rows * b.width, r.u);
  for (int64_t i = 0; i < rows * b.width; ++i) r.u[i] = r.dt[i] * r.x[i];
}

LORAINE_CLONES void decay_logarithms(float* to, const float* A, const float* dt, int64_t N, int64_t width) {
  for (int64_t n = 0; n < N; ++n)
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) to[n * width + c] = A[n * width + c] * dt[c];
}

// after = decays · before + B u (may be the same place); y += Σ_n C_n after_n.
LORAINE_CLONES void step(float* after, const float* before, const float* decays, const float* u, const float* B, const float* C, float* y,
                         int64_t N, int64_t width) {
  for (int64_t n = 0; n < N; ++n)
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) {
      const float h = decays[n * width + c] * before[n * width + c] + B[n] * u[c];
      after[n * width + c] = h;
      y[c] += C[n] * h;
    }
}

// d_state is that of the state after the row, and becomes that of the state before; d_B and d_C [N] are added to.
LORAINE_CLONES void step_backward(float* d_state, float* d_u, float* d_dt, float* d_B, float* d_C, const float* d_y, const float* after,
                                  const float* before, const float* decays, const float* A, const float* u, const float* B, const float* C,
                                  int64_t N, int64_t width) {
  for (int64_t n = 0; n < N; ++n) {
    const int64_t row = n * width;
    float of_B = 0, of_C = 0;
#pragma omp simd reduction(+ : of_B, of_C)
    for (int64_t c = 0; c < width; ++c) {
      const float d = d_state[row + c] + d_y[c] * C[n], passed = d * decays[row + c];
      of_C += d_y[c] * after[row + c];
      of_B += d * u[c];
      d_u[c] += d * B[n];
      d_dt[c] += passed * before[row + c] * A[row + c];
      d_state[row + c] = passed;
    }
    d_B[n] += of_B;
    d_C[n] += of_C;
  }
}

// d_A of A_log's elements; d_state is that of the state before the row.
LORAINE_CLONES void rates_backward(float* d_A, const float* d_state, const float* before, const float* A, const float* dt, int64_t N,
                                   int64_t width) {
  for (int64_t n = 0; n < N; ++n)
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) d_A[n * width + c] += d_state[n * width + c] * before[n * width + c] * A[n * width + c] * dt[c];
}

void forward(const Inputs& in, const Item& item, const Tensor& y, const Tensor& borders) {
  const FlushDenormals flush;
  const int64_t N = in.shape.state;
  const Sequence& s = *item.rows.sequence;
  const Room r(row_room(Room::floats(N, false)), N, false);
  for (int64_t channel = item.channel; channel < item.end; channel += kBlock) {
    const Block b{channel, std::min(kBlock, item.end - channel)};
    const int64_t size = N * b.width;
    begin_block(in, b, r);
    float* slot = item.rows.state ? item.rows.state + channel * N : nullptr;
    if (item.rows.continued) std::copy_n(slot, size, r.state);
    else std::fill_n(r.state, size, 0.0f);
    for (int64_t row = 0; row < s.length; row += kRecurrentChunk) {
      const int64_t rows = std::min(kRecurrentChunk, s.length - row);
      if (row > 0 && borders.data) {
        const int64_t border = item.rows.first_border + row / kRecurrentChunk - 1;
        std::copy_n(r.state, size, borders.f32() + border * borders.row_stride + channel * N);
      }
      load_rows(in, b, r, s.start + row, rows);
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t at = i * b.width;
        for (int64_t c = 0; c < b.width; ++c) r.y[at + c] = in.D.f32()[channel + c] * r.x[at + c];
        decay_logarithms(r.decays, r.A, r.dt + at, N, b.width);
        exp_row(r.decays, size, 1, 0);
        step(r.state, r.state, r.decays, r.u + at, r.B + i * N, r.C + i * N, r.y + at, N, b.width);
      }
      write_tile(y.col_range(channel, b.width), s.start + row, rows, r.y);
    }
    if (slot) std::copy_n(r.state, size, slot);
  }
}

struct Gradients {
  const Tensor &d_x, &d_dt_raw, &d_A_log, &d_D, &d_y, &partial;
  bool of_weights() const { return d_A_log.data || d_D.data; }
  float* of_part(int64_t row, int64_t part, int64_t N) const { return partial.f32() + row * partial.row_stride + part * 2 * N; }
};

// The states of all rows from that before the first, which lies in r.states.
void states_of_rows(const Block& b, const Room& r, int64_t rows, int64_t N) {
  const int64_t size = N * b.width;
  for (int64_t i = 0; i < rows; ++i) {
    decay_logarithms(r.decays + i * size, r.A, r.dt + i * b.width, N, b.width);
    exp_row(r.decays + i * size, size, 1, 0);
    step(r.states + (i + 1) * size, r.states + i * size, r.decays + i * size, r.u + i * b.width, r.B + i * N, r.C + i * N, r.y, N, b.width);
  }
}

void backward(const Inputs& in, const Gradients& out, const Item& item, const Tensor& borders) {
  const FlushDenormals flush;
  const int64_t N = in.shape.state;
  const Sequence& s = *item.rows.sequence;
  const Room r(row_room(Room::floats(N, true)), N, true);
  for (int64_t row = 0; row < s.length; ++row) std::fill_n(out.of_part(s.start + row, item.part, N), 2 * N, 0.0f);
  for (int64_t channel = item.channel; channel < item.end; channel += kBlock) {
    const Block b{channel, std::min(kBlock, item.end - channel)};
    const int64_t size = N * b.width;
    begin_block(in, b, r);
    std::fill_n(r.d_state, size, 0.0f);
    std::fill_n(r.d_A, size, 0.0f);
    std::fill_n(r.d_D, b.width, 0.0f);
    for (int64_t chunk = borders_of(s); chunk >= 0; --chunk) {
      const int64_t row = chunk * kRecurrentChunk, rows = std::min(kRecurrentChunk, s.length - row), first = s.start + row;
      load_rows(in, b, r, first, rows);
      read_tile(r.d_y, out.d_y.col_range(channel, b.width), first, rows);
      if (chunk == 0) std::fill_n(r.states, size, 0.0f);
      else std::copy_n(borders.f32() + (item.rows.first_border + chunk - 1) * borders.row_stride + channel * N, size, r.states);
      states_of_rows(b, r, rows, N);
      std::fill_n(r.d_u, rows * b.width, 0.0f);
      std::fill_n(r.d_dt, rows * b.width, 0.0f);
      for (int64_t i = rows - 1; i >= 0; --i) {
        const int64_t at = i * b.width;
        float* of_part = out.of_part(first + i, item.part, N);
        step_backward(r.d_state, r.d_u + at, r.d_dt + at, of_part, of_part + N, r.d_y + at, r.states + (i + 1) * size, r.states + i * size,
                      r.decays + i * size, r.A, r.u + at, r.B + i * N, r.C + i * N, N, b.width);
        if (out.d_A_log.data) rates_backward(r.d_A, r.d_state, r.states + i * size, r.A, r.dt + at, N, b.width);
      }
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t c = 0; c < b.width; ++c) {
          const int64_t at = i * b.width + c;
          r.d_dt[at] = -(r.d_dt[at] + r.d_u[at] * r.x[at]) * std::expm1(-r.dt[at]);  // softplus passes on 1 − e^−softplus
          r.d_u[at] = r.d_u[at] * r.dt[at] + in.D.f32()[channel + c] * r.d_y[at];
          r.d_D[c] += r.d_y[at] * r.x[at];
        }
      write_tile(out.d_x.col_range(channel, b.width), first, rows, r.d_u);
      write_tile(out.d_dt_raw.col_range(channel, b.width), first, rows, r.d_dt);
    }
    for (int64_t c = 0; c < b.width; ++c) {
      if (out.d_D.data) out.d_D.f32()[channel + c] += r.d_D[c];
      for (int64_t n = 0; n < N && out.d_A_log.data; ++n)
        out.d_A_log.f32()[(channel + c) * out.d_A_log.row_stride + n] += r.d_A[n * b.width + c];
    }
  }
}

}  // namespace

int64_t selective_scan_partial_columns(const SelectiveScanShape& shape) { return parts_of(shape) * 2 * shape.state; }

size_t selective_scan_bytes(const SelectiveScanShape& shape) {
  return static_cast<size_t>(Room::floats(shape.state, true)) * sizeof(float);
}

void selective_scan_cpu(const Tensor& y, const Tensor& borders, const Tensor& x, const Tensor& B, const Tensor& C, const Tensor& dt_raw,
                        const Tensor& A_log, const Tensor& D, std::span<const Sequence> sequences, const SelectiveScanShape& shape,
                        const RecurrentState& state) {
  const Inputs in{x, B, C, dt_raw, A_log, D, shape};
  const std::vector<Item> items = items_of(sequences, state, shape);
  int64_t longest = 1;
  for (const Sequence& s : sequences) longest = std::max(longest, s.length);
  // A few steps of few channels are done sooner than a second thread wakes up.
  const int64_t together = std::max<int64_t>(1, 65536 / (longest * shape.state_columns() / parts_of(shape)));
  parallel_for(
      static_cast<int64_t>(items.size()), [&](int64_t i) { forward(in, items[static_cast<size_t>(i)], y, borders); }, together);
}

void selective_scan_backward_cpu(const Tensor& d_x, const Tensor& d_B, const Tensor& d_C, const Tensor& d_dt_raw, const Tensor& d_A_log,
                                 const Tensor& d_D, const Tensor& d_y, const Tensor& borders, const Tensor& x, const Tensor& B,
                                 const Tensor& C, const Tensor& dt_raw, const Tensor& A_log, const Tensor& D,
                                 std::span<const Sequence> sequences, const SelectiveScanShape& shape, const Tensor& partial) {
  const Inputs in{x, B, C, dt_raw, A_log, D, shape};
  const Gradients out{d_x, d_dt_raw, d_A_log, d_D, d_y, partial};
  const std::vector<Item> items = items_of(sequences, {}, shape);
  const int64_t count = static_cast<int64_t>(items.size()), lines = out.of_weights() ? parts_of(shape) : count;
  parallel_for(lines, [&](int64_t first) {
    for (int64_t i = first; i < count; i += lines) backward(in, out, items[static_cast<size_t>(i)], borders);
  });
  const int64_t N = shape.state;
  for (const Sequence& s : sequences)
    parallel_for(
        s.length,
        [&](int64_t i) {
          float* sum = row_room(2 * N);
          std::fill_n(sum, 2 * N, 0.0f);
          for (int64_t p = 0; p < parts_of(shape); ++p) add_scaled_row(sum, out.of_part(s.start + i, p, N), 1, 2 * N);
          write_row(d_B, s.start + i, sum);
          write_row(d_C, s.start + i, sum + N);
        },
        row_chunk(partial.cols()));
}

}  // namespace loraine
