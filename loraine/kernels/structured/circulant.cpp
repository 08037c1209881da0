// Checks of the circulant products and the choice of device.
#include "loraine/kernels/structured/circulant.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void circulant_spectrum_cpu(const Tensor& spectrum, const Tensor& w);
void circulant_spectrum_backward_cpu(const Tensor& d_w, const Tensor& d_spectrum);
void multiply_circulant_cpu(const Tensor& y, const Tensor& x, const Tensor& spectrum, int64_t b, float scale);
void multiply_circulant_backward_cpu(const Tensor& d_x, const Tensor& d_spectrum, const Tensor& d_y, const Tensor& x,
                                     const Tensor& spectrum, int64_t b, float scale);

namespace {

void check_spectrum(const char* op, const Tensor& spectrum, const Tensor& w) {
  check_f32(op, "the kernel", w, w.rows(), w.cols());
  check_f32(op, "the spectrum", spectrum, w.rows(), w.shape[1] * spectrum_width(w.shape[2]));
}

void check_circulant(const char* op, const Tensor& y, const Tensor& x, const Tensor& spectrum, int64_t b) {
  check_op(b > 0 && spectrum.shape[2] == spectrum_width(b), op, "the spectrum is of blocks of another size");
  check_f32(op, "the spectrum", spectrum, spectrum.rows(), spectrum.cols());
  check_activation(op, "x", x, y.rows(), spectrum.shape[1] * b);
  check_activation(op, "y", y, x.rows(), spectrum.shape[0] * b);
}

}  // namespace

void circulant_spectrum(Context& ctx, const Tensor& spectrum, const Tensor& w) {
  check_spectrum("circulant_spectrum", spectrum, w);
  dispatch(ctx, "circulant_spectrum", [&] { circulant_spectrum_cpu(spectrum, w); });
}

void circulant_spectrum_backward(Context& ctx, const Tensor& d_w, const Tensor& d_spectrum) {
  check_spectrum("circulant_spectrum_backward", d_spectrum, d_w);
  dispatch(ctx, "circulant_spectrum_backward", [&] { circulant_spectrum_backward_cpu(d_w, d_spectrum); });
}

void multiply_circulant(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& spectrum, int64_t b, float scale) {
  check_circulant("multiply_circulant", y, x, spectrum, b);
  dispatch(ctx, "multiply_circulant", [&] { multiply_circulant_cpu(y, x, spectrum, b, scale); });
}

void multiply_circulant_backward(Context& ctx, const Tensor& d_x, const Tensor& d_spectrum, const Tensor& d_y, const Tensor& x,
                                 const Tensor& spectrum, int64_t b, float scale) {
  const char* op = "multiply_circulant_backward";
  check_circulant(op, d_y, x, spectrum, b);
  check_f32(op, "d_spectrum", d_spectrum, spectrum.rows(), spectrum.cols());
  if (d_x.data) check_activation(op, "d_x", d_x, x.rows(), x.cols());
  dispatch(ctx, op, [&] { multiply_circulant_backward_cpu(d_x, d_spectrum, d_y, x, spectrum, b, scale); });
}

}  // namespace loraine
