// Thin products on the GPU against double and the CPU's ops, in every form, type and way; dequantised codes bit for bit.
#include "loraine/kernels/products/products_cuda.h"

#include <random>

#include "loraine/core/error.h"
#include "loraine/kernels/cuda/gemm.h"
#include "loraine/kernels/products/matmul.h"
#include "tests/support/gpu_check.h"

namespace loraine::products_cuda_test {
namespace {

// whole: by Gemm, whose alpha is 1, and not by thin_product_cuda.
void check_product(ProductForm form, int64_t M, int64_t N, int64_t K, Dtype of_x, Dtype of_w, Dtype of_y, bool accumulate, int64_t pad = 0,
                   Gemm* whole = nullptr) {
  const int64_t x_rows = form == ProductForm::tn ? K : M, x_cols = form == ProductForm::tn ? M : K,
                w_rows = form == ProductForm::nt ? N : K, w_cols = form == ProductForm::nt ? K : N;
  std::vector<float> x = as_stored(random_floats(x_rows * x_cols, 1), of_x), w = as_stored(random_floats(w_rows * w_cols, 2), of_w),
                     y = as_stored(random_floats(M * N, 3), of_y);
  const float alpha = 0.75f;
  std::vector<double> want(static_cast<size_t>(M * N));
  for (int64_t m = 0; m < M; ++m)
    for (int64_t n = 0; n < N; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < K; ++k) {
        const int64_t at_x = form == ProductForm::tn ? k * M + m : m * K + k, at_w = form == ProductForm::nt ? n * K + k : k * N + n;
        sum += static_cast<double>(x[static_cast<size_t>(at_x)]) * w[static_cast<size_t>(at_w)];
      }
      want[static_cast<size_t>(m * N + n)] = alpha * sum + (accumulate ? y[static_cast<size_t>(m * N + n)] : 0.0f);
    }
  DeviceMatrix gx(of_x, x_rows, x_cols, x, pad), gw(of_w, w_rows, w_cols, w, pad), gy(of_y, M, N, y, pad);
  const DeviceArray<float> partial(static_cast<size_t>(thin_product_room(M, N, K)));
  const std::vector<float> got = in_all_orders([&](GpuStream& s) {
    gy.reset(s);
    if (whole) whole->multiply(s, form, gy.tensor(), gx.tensor(), gw.tensor(), accumulate, alpha);
    else thin_product_cuda(s, form, gy.tensor(), gx.tensor(), gw.tensor(), alpha, accumulate, partial.data());
    return gy.get(s);
  });
  expect_near(got, want, of_y == Dtype::F32 ? 2e-6 : 4e-3, "y");
  if (of_x == Dtype::BF16 || of_y == Dtype::BF16) return;
  Context ctx;
  auto op = form == ProductForm::nt ? matmul_nt : form == ProductForm::nn ? matmul_nn : matmul_tn;
  op(ctx, matrix(y, M, N), matrix(x, x_rows, x_cols), matrix(w, w_rows, w_cols), alpha, accumulate ? 1 : 0);
  expect_near(got, y, 3e-6, "y as on the CPU");
}

TEST(ProductsCuda, OfAnAdapter) {
  const Dtype f32 = Dtype::F32, bf16 = Dtype::BF16;
  for (Dtype type : {f32, bf16}) {
    check_product(ProductForm::nt, 70, 8, 40, type, f32, type, false);       // x Aᵀ
    check_product(ProductForm::nt, 65, 96, 16, type, f32, type, true);       // y += s · saved Bᵀ
    check_product(ProductForm::nn, 33, 16, 100, type, f32, type, false, 4);  // s · dY B
    check_product(ProductForm::tn, 72, 6, 130, type, type, f32, true, 2);    // dB += s dYᵀ saved
    check_product(ProductForm::tn, 12, 70, 90, type, type, f32, true);       // dA += Gᵀ x
    check_product(ProductForm::nn, 5, 67, 9, type, f32, type, true, 1);      // dX += G A
  }
  check_product(ProductForm::tn, 24, 24, 2100, bf16, bf16, f32, true);  // in two pieces of K
  check_product(ProductForm::nt, 3, 5, 4100, f32, f32, f32, false);     // in four
}

TEST(ProductsCuda, OfWholeWeights) {
  Gemm gemm;
  for (Dtype type : {Dtype::F32, Dtype::BF16})
    for (Dtype of_y : {Dtype::F32, type})
      for (bool accumulate : {false, true}) {
        check_product(ProductForm::nt, 33, 40, 72, type, type, of_y, accumulate, 0, &gemm);
        check_product(ProductForm::nn, 18, 56, 64, type, type, of_y, accumulate, 8, &gemm);
        check_product(ProductForm::tn, 24, 16, 40, type, type, of_y, accumulate, 8, &gemm);
      }
  const Tensor x(nullptr, Dtype::F32, {4, 8}), w(nullptr, Dtype::F32, {6, 7}), narrow(nullptr, Dtype::BF16, {6, 8});
  const Tensor y(nullptr, Dtype::F32, {4, 6});
  GpuStream stream;
  EXPECT_THROW(gemm.multiply(stream, ProductForm::nt, y, x, w), Error);
  EXPECT_THROW(gemm.multiply(stream, ProductForm::nt, y, x, narrow), Error);
}

TEST(ProductsCuda, OnTheMatrixUnits) {
  const Dtype bf16 = Dtype::BF16;
  check_product(ProductForm::nt, 64, 16, 64, bf16, bf16, Dtype::F32, false);
  check_product(ProductForm::nt, 70, 8, 72, bf16, bf16, bf16, false, 8);
  check_product(ProductForm::nt, 40, 32, 200, bf16, bf16, Dtype::F32, true);
  check_product(ProductForm::nt, 30, 48, 2056, bf16, bf16, bf16, true);  // in two pieces
}

TEST(ProductsCuda, DequantisedBitForBit) {
  const int64_t rows = 6, cols = 176, n = rows * cols, blocks = (n + 63) / 64;
  std::mt19937 random(5);
  auto bytes = [&](int64_t count) {
    std::vector<uint8_t> out(static_cast<size_t>(count));
    for (uint8_t& b : out) b = static_cast<uint8_t>(random());
    return out;
  };
  std::vector<uint8_t> codes = bytes(n), absmax_codes = bytes(blocks), exponents = bytes(n / 32);
  for (uint8_t& e : exponents) e = static_cast<uint8_t>(100 + e % 50);
  const std::vector<float> absmax = random_floats(blocks, 1, 0.1f), nested = random_floats(blocks / 4 + 1, 2, 0.1f),
                           of_rows = random_floats(rows, 3);
  const std::vector<float> map(kNf4Map, kNf4Map + 16), other_map(kFp4Map, kFp4Map + 16), nested_map(dynamic_map(), dynamic_map() + 256);
  const DeviceArray<uint8_t> g_codes(codes), g_absmax_codes(absmax_codes), g_exponents(exponents);
  const DeviceArray<float> g_absmax(absmax), g_nested(nested), g_rows(of_rows), g_map(map), g_other(other_map), g_nested_map(nested_map);
  for (Dtype type : {Dtype::NF4, Dtype::FP4, Dtype::INT8, Dtype::MXFP4_CODES})
    for (bool in_two : {false, true})
      for (Dtype values : {Dtype::F32, Dtype::F16, Dtype::BF16})
        for (int64_t first_row : {0, 2}) {
          QuantState host;
          host.codes = codes.data(), host.cols = cols, host.values = values, host.blocksize = 64, host.nested_blocksize = 4,
          host.offset = 0.05f;
          QuantState device = host;
          device.codes = g_codes.data();
          host.map = type == Dtype::NF4 ? map.data() : other_map.data(), device.map = type == Dtype::NF4 ? g_map.data() : g_other.data();
          if (in_two) {
            host.absmax_codes = absmax_codes.data(), host.nested_map = nested_map.data(), host.nested_absmax = nested.data();
            device.absmax_codes = g_absmax_codes.data(), device.nested_map = g_nested_map.data(), device.nested_absmax = g_nested.data();
          } else {
            host.absmax = absmax.data(), device.absmax = g_absmax.data();
          }
          host.row_absmax = of_rows.data(), device.row_absmax = g_rows.data();
          host.exponents = exponents.data(), device.exponents = g_exponents.data();
          Tensor view(codes.data(), type, {rows, cols});
          view.quant = &host;
          view = view.row_range(first_row, rows - first_row);
          std::vector<float> want(static_cast<size_t>(view.numel()));
          dequantise(want.data(), view);
          for (Dtype out : {Dtype::F32, Dtype::BF16}) {
            DeviceMatrix g(out, rows - first_row, cols);
            EXPECT_EQ(in_all_orders([&](GpuStream& s) {
                        dequantise_cuda(s, g.tensor(), type, device, first_row * cols);
                        return g.get(s);
                      }),
                      as_stored(want, out))
                << name_of(type);
          }
        }
  GpuStream s;
  EXPECT_ANY_THROW(dequantise_cuda(s, Tensor(nullptr, Dtype::F32, {1, 32}), Dtype::Q4_0, {}, 0));
}

}  // namespace
}  // namespace loraine::products_cuda_test
