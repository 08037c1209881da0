// Householder QR, Golub-Kahan-Lanczos with full reorthogonalisation, one-sided Jacobi for the small matrices that come out of it.
#include "loraine/adapters/low_rank.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "loraine/core/error.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/products/matmul.h"

namespace loraine {
namespace {

using Vector = std::vector<double>;

double dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}
void add_times(double* y, const double* x, double factor, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

void check_rank(const Tensor& w, int64_t r) {
  if (r < 1 || r > std::min(w.rows(), w.cols()))
    throw Error(ErrorKind::usage, "rank " + std::to_string(r) + " is more than a weight of shape " + w.shape_text() + " has",
                "choose a smaller lora_rank, or leave such modules out of lora_target");
}

// The r columns of a [m, r] (column k at a[k]), orthonormal by Householder reflections; signs as LAPACK: R's diagonal is −sign(pivot) ·
// norm.
void householder(std::vector<Vector>& a, int64_t m) {
  const size_t r = a.size();
  std::vector<Vector> reflections;
  for (size_t k = 0; k < r; ++k) {
    Vector v(a[k].begin(), a[k].end());
    std::fill(v.begin(), v.begin() + static_cast<ptrdiff_t>(k), 0.0);
    const double norm = std::sqrt(dot(v.data(), v.data(), m));
    v[k] += v[k] >= 0 ? norm : -norm;
    const double size = dot(v.data(), v.data(), m);
    if (size > 0)
      for (double& x : v) x *= std::sqrt(2 / size);
    for (size_t j = k; j < r; ++j) add_times(a[j].data(), v.data(), -dot(v.data(), a[j].data(), m), m);
    reflections.push_back(std::move(v));
  }
  for (size_t k = 0; k < r; ++k) {
    Vector q(static_cast<size_t>(m), 0.0);
    q[k] = 1;
    for (size_t j = r; j-- > 0;) add_times(q.data(), reflections[j].data(), -dot(reflections[j].data(), q.data(), m), m);
    a[k] = std::move(q);
  }
}

// Singular values and right vectors of a [k columns of length m]: one-sided Jacobi makes the columns orthogonal. v: the rotations, column
// by column; a becomes U · S.
void jacobi(std::vector<Vector>& a, std::vector<Vector>& v) {
  const size_t k = a.size();
  const int64_t m = k ? static_cast<int64_t>(a[0].size()) : 0;
  v.assign(k, Vector(k, 0.0));
  for (size_t i = 0; i < k; ++i) v[i][i] = 1;
  for (int sweep = 0; sweep < 60; ++sweep) {
    bool turned = false;
    for (size_t i = 0; i + 1 < k; ++i)
      for (size_t j = i + 1; j < k; ++j) {
        const double p = dot(a[i].data(), a[j].data(), m), ii = dot(a[i].data(), a[i].data(), m), jj = dot(a[j].data(), a[j].data(), m);
        if (std::abs(p) <= 1e-14 * std::sqrt(ii * jj) || p == 0) continue;
        turned = true;
        const double zeta = (jj - ii) / (2 * p), t = (zeta >= 0 ? 1 : -1) / (std::abs(zeta) + std::sqrt(1 + zeta * zeta));
        const double c = 1 / std::sqrt(1 + t * t), s = c * t;
        for (auto* columns : {&a, &v}) {
          Vector &x = (*columns)[i], &y = (*columns)[j];
          for (size_t e = 0; e < x.size(); ++e) {
            const double old = x[e];
            x[e] = c * old - s * y[e];
            y[e] = s * old + c * y[e];
          }
        }
      }
    if (!turned) return;
  }
}

// y [m] = w x, or y [n] = wᵀ x, sums in double.
void times(const Tensor& w, const Vector& x, Vector& y, bool transposed) {
  const int64_t m = w.rows(), n = w.cols();
  y.assign(static_cast<size_t>(transposed ? n : m), 0.0);
  constexpr int64_t kStripe = 512, kElements = 1 << 16;  // columns of one item, elements of a chunk of items
  if (transposed) {
    auto one = [&](int64_t stripe) {
      const int64_t first = stripe * kStripe, last = std::min(n, first + kStripe);
      for (int64_t i = 0; i < m; ++i) {
        const float* row = w.f32() + i * w.row_stride;
        const double factor = x[static_cast<size_t>(i)];
        for (int64_t j = first; j < last; ++j) y[static_cast<size_t>(j)] += factor * static_cast<double>(row[j]);
      }
    };
    parallel_for((n + kStripe - 1) / kStripe, one, kElements / (m * kStripe) + 1);
  } else {
    parallel_for(
        m,
        [&](int64_t i) {
          const float* row = w.f32() + i * w.row_stride;
          double sum = 0;
#pragma omp simd reduction(+ : sum)
          for (int64_t j = 0; j < n; ++j) sum += static_cast<double>(row[j]) * x[static_cast<size_t>(j)];
          y[static_cast<size_t>(i)] = sum;
        },
        kElements / n + 1);
  }
}

// Removes from x what lies along the basis, twice, and normalises it; gives its length (0 when nothing is left).
double orthonormalise(Vector& x, const std::vector<Vector>& basis) {
  const int64_t n = static_cast<int64_t>(x.size());
  const double before = std::sqrt(dot(x.data(), x.data(), n));
  for (int pass = 0; pass < 2; ++pass)
    for (const Vector& b : basis) add_times(x.data(), b.data(), -dot(b.data(), x.data(), n), n);
  const double length = std::sqrt(dot(x.data(), x.data(), n));
  if (length <= 1e-13 * before || length == 0) return 0;
  for (double& e : x) e /= length;
  return length;
}

// x orthogonal to the basis, from random numbers.
double random_direction(Vector& x, const std::vector<Vector>& basis, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  for (double& e : x) e = normal(random);
  return orthonormalise(x, basis);
}

// Combines basis vectors: result = Σ basis[k] · weights[k].
void combine_basis(const std::vector<Vector>& basis, const Vector& weights, Vector& result) {
  result.assign(basis[0].size(), 0.0);
  for (size_t k = 0; k < basis.size(); ++k) add_times(result.data(), basis[k].data(), weights[k], static_cast<int64_t>(result.size()));
}

std::vector<size_t> by_length(const std::vector<Vector>& columns, Vector& lengths) {
  lengths.clear();
  for (const Vector& c : columns) lengths.push_back(std::sqrt(dot(c.data(), c.data(), static_cast<int64_t>(c.size()))));
  std::vector<size_t> order(columns.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return lengths[a] > lengths[b]; });
  return order;
}

Factors empty_factors(const Tensor& w, int64_t r, bool values) {
  Factors out;
  out.left.resize(static_cast<size_t>(w.rows() * r));
  out.right.resize(static_cast<size_t>(r * w.cols()));
  if (values) out.values.resize(static_cast<size_t>(r));
  return out;
}

// right = leftᵀ w
void project(Context& ctx, const Tensor& w, int64_t r, Factors& factors) {
  matmul_tn(ctx, Tensor(factors.right.data(), Dtype::F32, {r, w.cols()}), Tensor(factors.left.data(), Dtype::F32, {w.rows(), r}), w);
}

// Orthonormal columns of x [rows, r], in place.
void orthonormal_columns(std::vector<float>& x, int64_t rows, int64_t r) {
  std::vector<Vector> columns(static_cast<size_t>(r), Vector(static_cast<size_t>(rows)));
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t k = 0; k < r; ++k)
      columns[static_cast<size_t>(k)][static_cast<size_t>(i)] = static_cast<double>(x[static_cast<size_t>(i * r + k)]);
  householder(columns, rows);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t k = 0; k < r; ++k)
      x[static_cast<size_t>(i * r + k)] = static_cast<float>(columns[static_cast<size_t>(k)][static_cast<size_t>(i)]);
}

}  // namespace

Factors first_of_qr(Context& ctx, const Tensor& w, int64_t r) {
  check_rank(w, r);
  Factors out = empty_factors(w, r, false);
  for (int64_t i = 0; i < w.rows(); ++i) std::copy_n(w.f32() + i * w.row_stride, r, out.left.data() + i * r);
  orthonormal_columns(out.left, w.rows(), r);
  project(ctx, w, r, out);
  for (int64_t i = 0; i < r; ++i) std::fill_n(out.right.data() + i * w.cols(), i, 0.0f);  // R is upper triangular
  return out;
}

Factors largest_singular(Context&, const Tensor& w, int64_t r) {
  check_rank(w, r);
  const int64_t m = w.rows(), n = w.cols(), most = std::min(m, n);
  const bool wide = m < n;  // then t is wᵀ, else w: the basis on the right is complete after `most` steps
  std::mt19937_64 random(1);
  std::vector<Vector> left, right, rotated, turns;  // t right[k] = beta[k-1] left[k-1] + alpha[k] left[k]
  Vector alpha, beta, lengths, next(static_cast<size_t>(most)), image;
  random_direction(next, right, random);
  double last_beta = 0;
  for (;;) {
    right.push_back(next);
    times(w, right.back(), image, wide);
    double length = orthonormalise(image, left);
    alpha.push_back(length);
    if (length == 0 && random_direction(image, left, random) == 0) image.assign(static_cast<size_t>(std::max(m, n)), 0.0);
    left.push_back(image);
    times(w, left.back(), next, !wide);
    last_beta = orthonormalise(next, right);
    const int64_t k = static_cast<int64_t>(right.size());
    const bool whole = k == most;
    if (!whole && last_beta == 0 && random_direction(next, right, random) == 0) next.assign(static_cast<size_t>(most), 0.0);
    beta.push_back(last_beta);
    if (!whole && (k < 2 * r + 8 || k % std::max<int64_t>(16, k / 4) != 0)) continue;
    // B [k, k] upper bidiagonal, t right = left B; its transpose's columns are rotated: Bᵀ = V S Uᵀ
    rotated.assign(static_cast<size_t>(k), Vector(static_cast<size_t>(k), 0.0));
    for (size_t i = 0; i < rotated.size(); ++i) {  // column i of Bᵀ = row i of B
      rotated[i][i] = alpha[i];
      if (i + 1 < rotated.size()) rotated[i][i + 1] = beta[i];
    }
    jacobi(rotated, turns);  // rotated columns: V · S, turns: U
    const std::vector<size_t> order = by_length(rotated, lengths);
    bool settled = true;  // residual of a triplet: last beta times the last element of its left vector
    for (int64_t i = 0; i < r; ++i)
      settled &= last_beta * std::abs(turns[order[static_cast<size_t>(i)]].back()) <= 1e-10 * lengths[order[0]];
    if (!settled && !whole) continue;
    Factors out = empty_factors(w, r, true);
    Vector u, v;
    for (int64_t i = 0; i < r; ++i) {
      const size_t at = order[static_cast<size_t>(i)];
      combine_basis(left, turns[at], u);
      combine_basis(right, rotated[at], v);
      for (double& e : v) e = lengths[at] > 0 ? e / lengths[at] : 0;
      if (wide) std::swap(u, v);
      out.values[static_cast<size_t>(i)] = static_cast<float>(lengths[at]);
      for (int64_t e = 0; e < m; ++e) out.left[static_cast<size_t>(e * r + i)] = static_cast<float>(u[static_cast<size_t>(e)]);
      for (int64_t e = 0; e < n; ++e) out.right[static_cast<size_t>(i * n + e)] = static_cast<float>(v[static_cast<size_t>(e)]);
    }
    return out;
  }
}

Factors randomized_singular(Context& ctx, const Tensor& w, int64_t r, int64_t iterations, uint64_t seed) {
  check_rank(w, r);
  const int64_t m = w.rows(), n = w.cols();
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  Factors out = empty_factors(w, r, true);
  std::vector<float> across(static_cast<size_t>(n * r));
  for (float& x : across) x = normal(random);
  const Tensor q(out.left.data(), Dtype::F32, {m, r}), p(across.data(), Dtype::F32, {n, r});
  matmul_nn(ctx, q, w, p);
  orthonormal_columns(out.left, m, r);
  for (int64_t i = 0; i < iterations; ++i) {
    matmul_tn(ctx, p, w, q);
    orthonormal_columns(across, n, r);
    matmul_nn(ctx, q, w, p);
    orthonormal_columns(out.left, m, r);
  }
  project(ctx, w, r, out);  // B = Qᵀ w [r, n]; its rows are rotated: B = U S V, U [r, r]
  std::vector<Vector> rows(static_cast<size_t>(r)), turns;
  for (int64_t k = 0; k < r; ++k) rows[static_cast<size_t>(k)].assign(out.right.begin() + k * n, out.right.begin() + (k + 1) * n);
  jacobi(rows, turns);
  Vector lengths;
  const std::vector<size_t> order = by_length(rows, lengths);
  const std::vector<float> basis = out.left;
  for (int64_t k = 0; k < r; ++k) {
    const size_t at = order[static_cast<size_t>(k)];
    out.values[static_cast<size_t>(k)] = static_cast<float>(lengths[at]);
    for (int64_t j = 0; j < n; ++j)
      out.right[static_cast<size_t>(k * n + j)] =
          lengths[at] > 0 ? static_cast<float>(rows[at][static_cast<size_t>(j)] / lengths[at]) : 0.0f;
    for (int64_t i = 0; i < m; ++i) {
      double sum = 0;
      for (int64_t l = 0; l < r; ++l) sum += static_cast<double>(basis[static_cast<size_t>(i * r + l)]) * turns[at][static_cast<size_t>(l)];
      out.left[static_cast<size_t>(i * r + k)] = static_cast<float>(sum);
    }
  }
  return out;
}

namespace {

// Column k of x [rows, r], or row k of x [r, cols].
std::vector<Vector> columns_of(const Tensor& x) {
  std::vector<Vector> columns(static_cast<size_t>(x.cols()), Vector(static_cast<size_t>(x.rows())));
  for (int64_t i = 0; i < x.rows(); ++i)
    for (int64_t k = 0; k < x.cols(); ++k)
      columns[static_cast<size_t>(k)][static_cast<size_t>(i)] = static_cast<double>(x.f32()[i * x.cols() + k]);
  return columns;
}
std::vector<Vector> rows_of(const Tensor& x) {
  std::vector<Vector> rows;
  for (int64_t k = 0; k < x.rows(); ++k) rows.emplace_back(x.f32() + k * x.cols(), x.f32() + (k + 1) * x.cols());
  return rows;
}

}  // namespace

Factors singular_of_product(Context& ctx, const Tensor& b, const Tensor& a) {
  const int64_t m = b.rows(), n = a.cols(), r = b.cols();
  if (r >= std::min(m, n)) {
    std::vector<float> product(static_cast<size_t>(m * n));
    const Tensor w(product.data(), Dtype::F32, {m, n});
    matmul_nn(ctx, w, b, a);
    return largest_singular(ctx, w, std::min(m, n));
  }
  // b = Q_b R_b and aᵀ = Q_a R_a, so that b a = Q_b (R_b R_aᵀ) Q_aᵀ
  const std::vector<Vector> b_columns = columns_of(b), a_rows = rows_of(a);
  std::vector<Vector> q_b = b_columns, q_a = a_rows;
  householder(q_b, m);
  householder(q_a, n);
  const auto size = static_cast<size_t>(r);
  std::vector<Vector> core(size, Vector(size, 0.0)), turns;  // column j
  for (size_t k = 0; k < size; ++k) {
    Vector left(size), right(size);
    for (size_t i = 0; i < size; ++i)
      left[i] = dot(q_b[i].data(), b_columns[k].data(), m), right[i] = dot(q_a[i].data(), a_rows[k].data(), n);
    for (size_t j = 0; j < size; ++j) add_times(core[j].data(), left.data(), right[j], r);
  }
  jacobi(core, turns);
  Vector lengths, u, v;
  const std::vector<size_t> order = by_length(core, lengths);
  Factors out;
  out.left.resize(static_cast<size_t>(m * r)), out.values.resize(size), out.right.resize(static_cast<size_t>(r * n));
  for (int64_t k = 0; k < r; ++k) {
    const size_t at = order[static_cast<size_t>(k)];
    out.values[static_cast<size_t>(k)] = static_cast<float>(lengths[at]);
    if (!(lengths[at] > 1e-14 * lengths[order[0]])) continue;
    combine_basis(q_b, core[at], u);
    combine_basis(q_a, turns[at], v);
    for (int64_t i = 0; i < m; ++i) out.left[static_cast<size_t>(i * r + k)] = static_cast<float>(u[static_cast<size_t>(i)] / lengths[at]);
    for (int64_t i = 0; i < n; ++i) out.right[static_cast<size_t>(k * n + i)] = static_cast<float>(v[static_cast<size_t>(i)]);
  }
  return out;
}

}  // namespace loraine
