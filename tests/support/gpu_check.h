// What tests of GPU ops share: arrays in device memory, and running an op in every order that the emulated GPU knows (on a real one:
// twice).
#pragma once
#include <gtest/gtest.h>

#include <cstring>
#include <utility>
#include <vector>

#include "loraine/core/gpu.h"
#include "loraine/core/tensor.h"
#include "tests/support/gpu_orders.h"
#include "tests/support/op_check.h"

namespace loraine {

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t n) : n_(n), memory_(n * sizeof(T)) {}
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) { set(values); }
  T* data() const { return static_cast<T*>(memory_.data()); }
  size_t size() const { return n_; }
  void set(const std::vector<T>& values) {
    GpuStream stream;
    set(stream, values);
    stream.synchronise();
  }
  // `values` must stay until the stream has done it.
  void set(GpuStream& stream, const std::vector<T>& values) { stream.copy(data(), values.data(), n_ * sizeof(T)); }
  void clear(GpuStream& stream) { stream.fill(data(), 0xff, n_ * sizeof(T)); }  // NaN
  std::vector<T> get(GpuStream& stream) const {
    std::vector<T> values(n_);
    stream.copy(values.data(), data(), n_ * sizeof(T));
    stream.synchronise();
    return values;
  }

 private:
  size_t n_;
  GpuMemory memory_;
};

// A matrix in device memory, F32 or BF16, made of f32 values; with `pad` more columns between its rows, which must stay as they are.
class DeviceMatrix {
 public:
  DeviceMatrix(Dtype dtype, int64_t rows, int64_t cols, const std::vector<float>& values = {}, int64_t pad = 0)
      : rows_(rows), cols_(cols), dtype_(dtype), host_(static_cast<size_t>(rows * (cols + pad)) * size_of(dtype)), memory_(host_.size()) {
    whole_ = Tensor(memory_.data(), dtype, {rows, cols + pad});
    std::memset(host_.data(), 0xff, host_.size());
    for (size_t i = 0; i < values.size(); ++i) {
      const int64_t at = static_cast<int64_t>(i) / cols * (cols + pad) + static_cast<int64_t>(i) % cols;
      if (dtype == Dtype::F32) std::memcpy(host_.data() + at * 4, &values[i], 4);
      else {
        const bf16 narrow = f32_to_bf16(values[i]);
        std::memcpy(host_.data() + at * 2, &narrow, 2);
      }
    }
    GpuStream stream;
    reset(stream);
    stream.synchronise();
  }
  void reset(GpuStream& stream) { stream.copy(memory_.data(), host_.data(), host_.size()); }  // to the values it began with
  Tensor tensor() const { return whole_.col_range(0, cols_); }
  // Its values as f32; fails the test where the padding was written to.
  std::vector<float> get(GpuStream& stream) const {
    std::vector<char> bytes(host_.size());
    stream.copy(bytes.data(), memory_.data(), bytes.size());
    stream.synchronise();
    std::vector<float> values;
    const int64_t stride = whole_.cols();
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t c = 0; c < cols_; ++c) {
        float value;
        const char* at = bytes.data() + (r * stride + c) * static_cast<int64_t>(size_of(dtype_));
        if (dtype_ == Dtype::F32) std::memcpy(&value, at, 4);
        else {
          bf16 narrow;
          std::memcpy(&narrow, at, 2);
          value = bf16_to_f32(narrow);
        }
        values.push_back(value);
      }
      const size_t begin = static_cast<size_t>(r * stride + cols_) * size_of(dtype_),
                   end = static_cast<size_t>((r + 1) * stride) * size_of(dtype_);
      for (size_t i = begin; i < end; ++i)
        if (bytes[i] != host_[i]) ADD_FAILURE() << "the padding of row " << r << " was written to";
    }
    return values;
  }

 private:
  int64_t rows_, cols_;
  Dtype dtype_;
  std::vector<char> host_;
  GpuMemory memory_;
  Tensor whole_;
};

// run(stream) in every order; what it gives in each.
template <class Run>
auto all_orders(Run&& run) {
  std::vector<decltype(run(std::declval<GpuStream&>()))> results;
  for (int order = 0; order < gpu_orders(); ++order) {
    set_gpu_order(order);
    GpuStream stream;
    results.push_back(run(stream));
    stream.synchronise();
  }
  set_gpu_order(0);
  return results;
}
template <class T>
bool all_equal(const std::vector<std::vector<T>>& results) {
  for (const auto& result : results)
    if (result.size() != results[0].size() || std::memcmp(result.data(), results[0].data(), result.size() * sizeof(T)) != 0) return false;
  return true;
}
// run(stream) gives a vector; its bits must be the same in every order, and nobody may touch what he may not.
template <class Run>
auto in_all_orders(Run&& run) {
  const int64_t before = forbidden_gpu_touches();
  auto results = all_orders(std::forward<Run>(run));
  EXPECT_TRUE(all_equal(results)) << "the order of threads, blocks or copies changes the result";
  EXPECT_EQ(forbidden_gpu_touches(), before) << "device memory was touched by the host, or beyond its end";
  return results[0];
}

inline std::vector<float> joined(std::vector<float> a, const std::vector<float>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// What a tensor of the type holds of them, as f32.
inline std::vector<float> as_stored(const std::vector<float>& values, Dtype dtype) {
  return dtype == Dtype::F32 ? values : to_floats(to_bf16(values));
}

}  // namespace loraine
