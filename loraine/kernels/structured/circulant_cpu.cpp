// Circulant products on the CPU: a row's blocks are transformed, multiplied frequency by frequency and transformed back.
#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <vector>

#include "loraine/core/tensor.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/structured/circulant.h"

namespace loraine {
namespace {

using Complex = std::complex<float>;
constexpr int64_t kTokensAtOnce = 64;  // whose spectra are held for the gradient of the kernel

Complex times(Complex a, Complex b) {  // without std::complex's care for infinities
  return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}

// Transforms of b real numbers, by the prime factors of b (Cooley and Tukey).
class Fourier {
 public:
  explicit Fourier(int64_t b) : b_(b), half_(b / 2 + 1) {
    const double step = -2 * std::acos(-1.0) / static_cast<double>(b);
    for (int64_t k = 0; k < b; ++k) {
      const double angle = step * static_cast<double>(k);
      roots_.emplace_back(static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle)));
    }
  }
  int64_t room() const { return 6 * b_; }  // floats

  // spectrum [2·half] of x [b]
  void forward(float* spectrum, const float* x, float* room) const {
    Complex *in = reinterpret_cast<Complex*>(room), *out = in + b_;
    for (int64_t i = 0; i < b_; ++i) in[i] = {x[i], 0};
    transform(out, in, b_, 1, out + b_);
    for (int64_t f = 0; f < half_; ++f) spectrum[f] = out[f].real(), spectrum[half_ + f] = out[f].imag();
  }
  // x [b] += factor · the inverse of spectrum; what would be complex of it is left out
  void add_inverse(float* x, const float* spectrum, float factor, float* room) const {
    Complex *in = reinterpret_cast<Complex*>(room), *out = in + b_;
    for (int64_t f = 0; f < half_; ++f) in[f] = {spectrum[f], -spectrum[half_ + f]};  // conjugates there and back: the inverse
    for (int64_t f = half_; f < b_; ++f) in[f] = std::conj(in[b_ - f]);
    transform(out, in, b_, 1, out + b_);
    factor /= static_cast<float>(b_);
    for (int64_t i = 0; i < b_; ++i) x[i] += factor * out[i].real();
  }

 private:
  void transform(Complex* out, const Complex* in, int64_t n, int64_t stride, Complex* room) const {
    if (n == 1) {
      *out = *in;
      return;
    }
    int64_t p = 2;
    while (n % p) ++p;
    const int64_t m = n / p;
    for (int64_t q = 0; q < p; ++q) transform(out + q * m, in + q * stride, m, stride * p, room);
    if (p == 2) {
      for (int64_t k = 0; k < m; ++k) {
        const Complex even = out[k], odd = times(out[m + k], roots_[static_cast<size_t>(k * stride)]);
        out[k] = even + odd;
        out[m + k] = even - odd;
      }
      return;
    }
    for (int64_t k = 0; k < m; ++k) {
      for (int64_t q = 0; q < p; ++q) room[q] = times(out[q * m + k], roots_[static_cast<size_t>(q * k * stride % b_)]);
      for (int64_t r = 0; r < p; ++r) {
        Complex sum = room[0];
        for (int64_t q = 1; q < p; ++q) sum += times(room[q], roots_[static_cast<size_t>(q * r % p * m * stride)]);
        out[r * m + k] = sum;
      }
    }
  }

  int64_t b_, half_;
  std::vector<Complex> roots_;  // e^(−2πi k / b)
};

// sum += x · conj(w), each [2·h]
LORAINE_CLONES void add_times_conjugate(float* sum, const float* x, const float* w, int64_t h) {
#pragma omp simd
  for (int64_t f = 0; f < h; ++f) {
    sum[f] += x[f] * w[f] + x[h + f] * w[h + f];
    sum[h + f] += x[h + f] * w[f] - x[f] * w[h + f];
  }
}

// sum += x · w
LORAINE_CLONES void add_times_complex(float* sum, const float* x, const float* w, int64_t h) {
#pragma omp simd
  for (int64_t f = 0; f < h; ++f) {
    sum[f] += x[f] * w[f] - x[h + f] * w[h + f];
    sum[h + f] += x[h + f] * w[f] + x[f] * w[h + f];
  }
}

}  // namespace

void circulant_spectrum_cpu(const Tensor& spectrum, const Tensor& w) {
  const int64_t b = w.shape[2], width = spectrum_width(b);
  const Fourier fourier(b);
  parallel_for(w.rows() * w.shape[1],
               [&](int64_t i) { fourier.forward(spectrum.f32() + i * width, w.f32() + i * b, row_room(fourier.room())); });
}

void circulant_spectrum_backward_cpu(const Tensor& d_w, const Tensor& d_spectrum) {
  const int64_t b = d_w.shape[2], width = spectrum_width(b);
  const Fourier fourier(b);
  parallel_for(d_w.rows() * d_w.shape[1],
               [&](int64_t i) { fourier.add_inverse(d_w.f32() + i * b, d_spectrum.f32() + i * width, 1, row_room(fourier.room())); });
}

void multiply_circulant_cpu(const Tensor& y, const Tensor& x, const Tensor& spectrum, int64_t b, float scale) {
  const int64_t M = spectrum.shape[0], N = spectrum.shape[1], width = spectrum_width(b);
  const Fourier fourier(b);
  parallel_for(x.rows(), [&](int64_t t) {
    float* room = row_room(fourier.room() + (N + 1) * width + (M + N) * b);
    float *inputs = room + fourier.room(), *sum = inputs + N * width, *rows = sum + width;
    float* out = begin_row(y, t, rows);
    const float* in = read_row(x, t, rows + M * b);
    read_row(y, t, out);
    for (int64_t n = 0; n < N; ++n) fourier.forward(inputs + n * width, in + n * b, room);
    for (int64_t m = 0; m < M; ++m) {
      std::fill_n(sum, width, 0.0f);
      for (int64_t n = 0; n < N; ++n) add_times_conjugate(sum, inputs + n * width, spectrum.f32() + (m * N + n) * width, width / 2);
      fourier.add_inverse(out + m * b, sum, scale, room);
    }
    finish_row(y, t, out);
  });
}

void multiply_circulant_backward_cpu(const Tensor& d_x, const Tensor& d_spectrum, const Tensor& d_y, const Tensor& x,
                                     const Tensor& spectrum, int64_t b, float scale) {
  const int64_t M = spectrum.shape[0], N = spectrum.shape[1], width = spectrum_width(b), of_token = (M + N) * width;
  const Fourier fourier(b);
  thread_local Buffer memory;
  const size_t bytes = static_cast<size_t>(std::min(kTokensAtOnce, x.rows()) * of_token) * sizeof(float);
  if (memory.bytes() < bytes) memory = Buffer(bytes);
  float* spectra = static_cast<float*>(memory.data());  // of each token those of its d_y, then those of its x
  for (int64_t first = 0; first < x.rows(); first += kTokensAtOnce) {
    const int64_t count = std::min(kTokensAtOnce, x.rows() - first);
    parallel_for(count, [&](int64_t i) {
      const int64_t t = first + i;
      float* room = row_room(fourier.room() + width + (M + N) * b);
      float *sum = room + fourier.room(), *rows = sum + width, *of_out = spectra + i * of_token, *of_in = of_out + M * width;
      const float* d_out = read_row(d_y, t, rows);
      for (int64_t m = 0; m < M; ++m) fourier.forward(of_out + m * width, d_out + m * b, room);
      const float* in = read_row(x, t, rows);
      for (int64_t n = 0; n < N; ++n) fourier.forward(of_in + n * width, in + n * b, room);
      if (!d_x.data) return;
      float* d_in = begin_row(d_x, t, rows);
      read_row(d_x, t, d_in);
      for (int64_t n = 0; n < N; ++n) {
        std::fill_n(sum, width, 0.0f);
        for (int64_t m = 0; m < M; ++m) add_times_complex(sum, of_out + m * width, spectrum.f32() + (m * N + n) * width, width / 2);
        fourier.add_inverse(d_in + n * b, sum, scale, room);
      }
      finish_row(d_x, t, d_in);
    });
    parallel_for(M * N, [&](int64_t block) {
      float* room = row_room(width);
      std::fill_n(room, width, 0.0f);
      for (int64_t i = 0; i < count; ++i) {
        const float* of_out = spectra + i * of_token;
        add_times_conjugate(room, of_out + (M + block % N) * width, of_out + block / N * width, width / 2);
      }
      for (int64_t k = 0; k < width; ++k) d_spectrum.f32()[block * width + k] += scale * room[k];
    });
  }
}

}  // namespace loraine
