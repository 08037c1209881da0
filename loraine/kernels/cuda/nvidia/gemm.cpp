// Products by cuBLASLt, which is opened when it is first needed: a program that never asks for one starts where the library is not.
#include "loraine/kernels/cuda/gemm.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <map>
#include <string>
#include <tuple>

#include "loraine/core/error.h"

namespace loraine {
namespace {

constexpr size_t kLargeWorkspace = size_t{32} << 20, kSmallWorkspace = size_t{4} << 20;  // of Hopper and later; of older cards

void check_blas(const char* what, cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(ErrorKind::device, std::string("cuBLASLt: ") + what + ": status " + std::to_string(static_cast<int>(status)));
}

// What is used of the library.
struct BlasLibrary {
  void* library = nullptr;
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtDestroy) destroy;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulDescCreate) desc_create;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;

  BlasLibrary() {
    const std::string name = "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR);
    library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
      const char* why = dlerror();
      throw Error(ErrorKind::unsupported, "device cuda: " + name + " cannot be opened: " + (why ? why : "no reason is given"),
                  "Install cuBLAS of the CUDA toolkit that this program was built with and name its folder in LD_LIBRARY_PATH. Or run on "
                  "the CPU (device: cpu).");
    }
    find(create, "cublasLtCreate"), find(destroy, "cublasLtDestroy"), find(matmul, "cublasLtMatmul");
    find(desc_create, "cublasLtMatmulDescCreate"), find(desc_destroy, "cublasLtMatmulDescDestroy");
    find(desc_set, "cublasLtMatmulDescSetAttribute");
    find(layout_create, "cublasLtMatrixLayoutCreate"), find(layout_destroy, "cublasLtMatrixLayoutDestroy");
    find(preference_create, "cublasLtMatmulPreferenceCreate"), find(preference_destroy, "cublasLtMatmulPreferenceDestroy");
    find(preference_set, "cublasLtMatmulPreferenceSetAttribute"), find(heuristic, "cublasLtMatmulAlgoGetHeuristic");
  }
  template <class F>
  void find(F& function, const char* name) {
    function = reinterpret_cast<F>(dlsym(library, name));
    if (!function) throw Error(ErrorKind::unsupported, std::string("device cuda: cuBLASLt has no ") + name, "Install a newer cuBLAS.");
  }
};

const BlasLibrary& blas() {
  static const BlasLibrary library;  // open until the program ends
  return library;
}

cudaDataType_t blas_type(const Tensor& t) { return t.dtype == Dtype::BF16 ? CUDA_R_16BF : CUDA_R_32F; }

// The largest power of two up to 256 at which all rows of a tensor begin.
uint32_t row_alignment(const Tensor& t) {
  const auto at = reinterpret_cast<uintptr_t>(t.data) | static_cast<uintptr_t>(t.row_stride) * size_of(t.dtype);
  uint32_t alignment = 256;
  while (at % alignment != 0) alignment /= 2;
  return alignment;
}

// A tensor of rows as cuBLASLt sees it, column by column: its transpose.
struct BlasLayout {
  cublasLtMatrixLayout_t layout = nullptr;
  explicit BlasLayout(const Tensor& t) {
    check_blas("layout",
               blas().layout_create(&layout, blas_type(t), static_cast<uint64_t>(t.cols()), static_cast<uint64_t>(t.rows()), t.row_stride));
  }
  BlasLayout(const BlasLayout&) = delete;
  ~BlasLayout() { blas().layout_destroy(layout); }
};

struct BlasProduct {
  cublasLtMatmulDesc_t desc = nullptr;
  BlasProduct(bool first_turned, bool second_turned) {
    check_blas("product", blas().desc_create(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    set(CUBLASLT_MATMUL_DESC_TRANSA, first_turned);
    set(CUBLASLT_MATMUL_DESC_TRANSB, second_turned);
  }
  BlasProduct(const BlasProduct&) = delete;
  ~BlasProduct() { blas().desc_destroy(desc); }
  void set(cublasLtMatmulDescAttributes_t attribute, bool turned) {
    const cublasOperation_t operation = turned ? CUBLAS_OP_T : CUBLAS_OP_N;
    check_blas("product", blas().desc_set(desc, attribute, &operation, sizeof operation));
  }
};

struct BlasPreference {
  cublasLtMatmulPreference_t preference = nullptr;
  BlasPreference() { check_blas("preference", blas().preference_create(&preference)); }
  BlasPreference(const BlasPreference&) = delete;
  ~BlasPreference() { blas().preference_destroy(preference); }
  template <class T>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    check_blas("preference", blas().preference_set(preference, attribute, &value, sizeof value));
  }
};

// By all that the choice of an algorithm depends on.
using BlasKey = std::tuple<int, int, int, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, uint32_t, uint32_t, uint32_t>;

}  // namespace

struct Gemm::State {
  cublasLtHandle_t handle = nullptr;
  GpuMemory workspace;
  std::map<BlasKey, cublasLtMatmulAlgo_t> chosen;  // the first of the heuristic: a resumed run then has the same bits
  State() : workspace(open_gpu().capability >= 90 ? kLargeWorkspace : kSmallWorkspace) { check_blas("opening it", blas().create(&handle)); }
  ~State() { blas().destroy(handle); }
};

Gemm::Gemm(bool only_counts) : state_(only_counts ? nullptr : std::make_unique<State>()) {}
Gemm::~Gemm() = default;

// Rows of y are columns of yᵀ = wᵀ xᵀ, which is what the library is asked for.
void Gemm::multiply(GpuStream& stream, ProductForm form, const Tensor& y, const Tensor& x, const Tensor& w, bool accumulate, float alpha) {
  const GemmShape shape = gemm_shape(form, y, x, w);
  if (!begin_product(stream, shape, y, x, w, accumulate)) return;
  const BlasLayout of_w(w), of_x(x), of_y(y);
  const BlasProduct product(form == ProductForm::nt, form == ProductForm::tn);
  const uint32_t a = row_alignment(w), b = row_alignment(x), c = row_alignment(y);
  const BlasKey key{static_cast<int>(form),
                    static_cast<int>(x.dtype),
                    static_cast<int>(y.dtype),
                    shape.M,
                    shape.N,
                    shape.K,
                    w.row_stride,
                    x.row_stride,
                    y.row_stride,
                    a,
                    b,
                    c};
  auto found = state_->chosen.find(key);
  if (found == state_->chosen.end()) {
    BlasPreference preference;
    preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, state_->workspace.bytes());
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, a);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, b);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, c);
    cublasLtMatmulHeuristicResult_t result = {};
    int count = 0;
    check_blas("choosing an algorithm", blas().heuristic(state_->handle, product.desc, of_w.layout, of_x.layout, of_y.layout, of_y.layout,
                                                         preference.preference, 1, &result, &count));
    if (count == 0) throw Error(ErrorKind::device, "cuBLASLt: no algorithm for " + y.shape_text() + " of " + x.shape_text());
    found = state_->chosen.emplace(key, result.algo).first;
  }
  const float beta = accumulate ? 1.0f : 0.0f;
  check_blas("product", blas().matmul(state_->handle, product.desc, &alpha, w.data, of_w.layout, x.data, of_x.layout, &beta, y.data,
                                      of_y.layout, y.data, of_y.layout, &found->second, state_->workspace.data(), state_->workspace.bytes(),
                                      static_cast<cudaStream_t>(stream.handle())));
}

}  // namespace loraine
