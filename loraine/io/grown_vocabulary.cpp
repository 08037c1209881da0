// The old rows are read from the files; the new ones are made from them when a tensor is read.
#include "loraine/io/grown_vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "loraine/core/error.h"
#include "loraine/io/normal_noise.h"

namespace loraine {
namespace {

bool is_embedding(const std::string& name) { return name.ends_with("embed_tokens.weight"); }
bool grows(const std::string& name) { return is_embedding(name) || name == "lm_head.weight"; }

void* row_of(const Tensor& t, int64_t row) { return t.row_range(row, 1).data; }

class GrownVocabulary : public TensorSource {
 public:
  GrownVocabulary(std::shared_ptr<TensorSource> inner, const std::string& path, NewRows rows)
      : inner_(std::move(inner)), rows_(std::move(rows)), all_(inner_->tensors()) {
    for (TensorInfo& info : all_) {
      if (!grows(info.name)) continue;
      if (info.packed || info.shape.size() != 2)
        throw Error(ErrorKind::bad_data,
                    path + ": " + info.name + " is stored quantised, and rows are added to an embedding in full precision",
                    "add the tokens to the model before it is quantised");
      if (info.shape[0] > rows_.rows)
        throw Error(ErrorKind::bad_data,
                    fmt::format("{}: {} has {} rows, and vocab_size of config.json is smaller", path, info.name, info.shape[0]),
                    "set vocab_size to the number of rows");
      info.shape[0] = rows_.rows;
      if (is_embedding(info.name)) take_descriptions(info.name);
    }
  }
  const std::vector<TensorInfo>& tensors() const override { return all_; }
  Tensor map(const TensorInfo& info) const override { return grows(info.name) ? Tensor() : inner_->map(*inner_->find(info.name)); }
  Tensor map_packed(const TensorInfo& info) const override { return inner_->map_packed(*inner_->find(info.name)); }
  Tensor take_packed(const TensorInfo& info, Buffer& memory) const override {
    return inner_->take_packed(*inner_->find(info.name), memory);
  }
  std::vector<StackPiece> map_pieces(const TensorInfo& info) const override { return inner_->map_pieces(*inner_->find(info.name)); }
  void read(const TensorInfo& info, const Tensor& out) const override {
    const TensorInfo& old = *inner_->find(info.name);
    if (!grows(info.name)) return inner_->read(old, out);
    const int64_t width = old.shape[1], before = old.shape[0];
    const Tensor all(out.data, out.dtype, {rows_.rows, width});
    inner_->read(old, all.row_range(0, before));
    std::vector<bool> is_new(static_cast<size_t>(rows_.rows), false);
    for (const int32_t id : rows_.ids) is_new[static_cast<size_t>(id)] = true;
    std::fill(is_new.begin() + before, is_new.end(), true);
    const std::vector<float> mean = mean_of_old(all, before, is_new);
    const NormalNoise noise(rows_.seed, info.name);
    for (int64_t row = 0; row < rows_.rows; ++row) {
      if (!is_new[static_cast<size_t>(row)]) continue;
      const auto described = described_.find(static_cast<int32_t>(row));
      const std::vector<float>& from = described == described_.end() ? mean : described->second;
      const bool noisy = described == described_.end() || rows_.noise_on_described;
      std::vector<float> values = from;
      for (int64_t c = 0; noisy && c < width; ++c)
        values[static_cast<size_t>(c)] +=
            static_cast<float>(noise.at(static_cast<uint64_t>(row * width + c)) / std::sqrt(static_cast<double>(width)));
      put(all, row, values);
    }
  }

 private:
  static std::vector<float> get(const Tensor& t, int64_t row) {
    std::vector<float> values(static_cast<size_t>(t.cols()));
    if (t.dtype == Dtype::F32) std::copy_n(static_cast<const float*>(row_of(t, row)), t.cols(), values.begin());
    else convert(values.data(), Dtype::F32, row_of(t, row), t.dtype, t.cols());
    return values;
  }
  static void put(const Tensor& t, int64_t row, const std::vector<float>& values) {
    if (t.dtype == Dtype::F32) std::copy(values.begin(), values.end(), static_cast<float*>(row_of(t, row)));
    else convert(row_of(t, row), t.dtype, values.data(), Dtype::F32, t.cols());
  }
  static std::vector<float> mean_of_old(const Tensor& all, int64_t before, const std::vector<bool>& is_new) {
    std::vector<double> sum(static_cast<size_t>(all.cols()));
    int64_t count = 0;
    for (int64_t row = 0; row < before; ++row) {
      if (is_new[static_cast<size_t>(row)]) continue;
      const std::vector<float> values = get(all, row);
      for (size_t c = 0; c < sum.size(); ++c) sum[c] += values[c];
      ++count;
    }
    std::vector<float> mean(sum.size());
    for (size_t c = 0; c < sum.size(); ++c) mean[c] = static_cast<float>(sum[c] / static_cast<double>(std::max<int64_t>(count, 1)));
    return mean;
  }
  // Where descriptions begin: the mean of the embedding's rows, for the head too. What has no old token starts as the others do.
  void take_descriptions(const std::string& name) {
    if (rows_.described.empty()) return;
    const TensorInfo& old = *inner_->find(name);
    std::vector<float> values(static_cast<size_t>(old.shape[0] * old.shape[1]));
    const Tensor embedding(values.data(), Dtype::F32, {old.shape[0], old.shape[1]});
    inner_->read(old, embedding);
    for (const auto& [token, ids] : rows_.described) {
      std::vector<double> sum(static_cast<size_t>(old.shape[1]));
      int64_t count = 0;
      for (const int32_t id : ids) {
        if (id < 0 || id >= old.shape[0] || rows_.described.contains(id) || std::ranges::find(rows_.ids, id) != rows_.ids.end()) continue;
        const std::vector<float> row = get(embedding, id);
        for (size_t c = 0; c < sum.size(); ++c) sum[c] += row[c];
        ++count;
      }
      if (count == 0) continue;
      std::vector<float>& start = described_[token];
      for (const double s : sum) start.push_back(static_cast<float>(s / static_cast<double>(count)));
    }
  }

  std::shared_ptr<TensorSource> inner_;
  NewRows rows_;
  std::vector<TensorInfo> all_;
  std::map<int32_t, std::vector<float>> described_;
};

}  // namespace

void grow_vocabulary(ModelFiles& files, const NewRows& rows) {
  files.tensors = std::make_shared<GrownVocabulary>(files.tensors, files.path, rows);
  files.config["vocab_size"] = rows.rows;
}

}  // namespace loraine
