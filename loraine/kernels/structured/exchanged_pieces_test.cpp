// Pieces against their places, there and back, in f32 and bf16, of strided rows; the way back as the gradient.
#include "loraine/kernels/structured/exchanged_pieces.h"

#include "tests/support/op_check.h"

namespace loraine::exchanged_pieces_test {
namespace {

constexpr int64_t T = 5, A = 3, B = 2, S = 4, C = A * B * S;

TEST(ExchangedPieces, PlacesAndTheWayBack) {
  Context ctx;
  std::vector<float> x = random_floats(T * (C + 3), 1), y(static_cast<size_t>(T * C)), back(y.size());
  const Tensor from = matrix(x, T, C + 3).col_range(2, C);
  exchange_pieces(ctx, matrix(y, T, C), from, A, B);
  exchange_pieces(ctx, matrix(back, T, C), matrix(y, T, C), B, A);
  for (int64_t t = 0; t < T; ++t)
    for (int64_t a = 0; a < A; ++a)
      for (int64_t b = 0; b < B; ++b)
        for (int64_t i = 0; i < S; ++i) {
          const float value = from.f32()[t * from.row_stride + (a * B + b) * S + i];
          EXPECT_EQ(y[static_cast<size_t>(t * C + (b * A + a) * S + i)], value);
          EXPECT_EQ(back[static_cast<size_t>(t * C + (a * B + b) * S + i)], value);
        }
  // ⟨y(x), g⟩ = ⟨x, d_x(g)⟩ for every g
  std::vector<float> g = random_floats(T * C, 2), d_x(g.size()), dense = random_floats(T * C, 3), out(g.size());
  exchange_pieces(ctx, matrix(d_x, T, C), matrix(g, T, C), B, A);
  exchange_pieces(ctx, matrix(out, T, C), matrix(dense, T, C), A, B);
  EXPECT_NEAR(inner(out, g), inner(dense, d_x), 1e-9);
  std::vector<bf16> narrow = to_bf16(dense), narrow_y(narrow.size());
  exchange_pieces(ctx, matrix(narrow_y, T, C), matrix(narrow, T, C), A, B);
  EXPECT_EQ(to_floats(narrow_y), to_floats(to_bf16(out)));
}

TEST(ExchangedPieces, InGroups) {
  Context ctx;
  std::vector<float> x = random_floats(T * C, 4), y(x.size()), one(y.size());
  exchange_pieces(ctx, matrix(y, T, C), matrix(x, T, C), 2, A, 2);
  for (int64_t g = 0; g < 2; ++g)
    exchange_pieces(ctx, matrix(one, T, C).col_range(g * C / 2, C / 2), matrix(x, T, C).col_range(g * C / 2, C / 2), 2, A);
  EXPECT_EQ(y, one);
}

TEST(ExchangedPieces, WrongShapesAreRefused) {
  Context ctx;
  std::vector<float> x(static_cast<size_t>(T * C)), y(x.size());
  EXPECT_ANY_THROW(exchange_pieces(ctx, matrix(y, T, C), matrix(x, T, C), 5, B));
  EXPECT_ANY_THROW(exchange_pieces(ctx, matrix(y, T, C).col_range(0, C - 1), matrix(x, T, C), A, B));
}

}  // namespace
}  // namespace loraine::exchanged_pieces_test
