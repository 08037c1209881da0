// By the source's own infos, whose shapes are swapped here.
#include "loraine/io/tensors/turned_source.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "loraine/core/error.h"

namespace loraine {
namespace {

class TurnedSource final : public TensorSource {
 public:
  TurnedSource(std::shared_ptr<TensorSource> inner, std::vector<std::string> ends)
      : inner_(std::move(inner)), ends_(std::move(ends)), infos_(inner_->tensors()) {
    for (TensorInfo& info : infos_)
      if (turns(info)) std::swap(info.shape[0], info.shape[1]);
  }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  Tensor map(const TensorInfo& info) const override { return turns(info) ? Tensor() : inner_->map(of_inner(info)); }
  Tensor map_packed(const TensorInfo& info) const override { return turns(info) ? Tensor() : inner_->map_packed(of_inner(info)); }
  Tensor take_packed(const TensorInfo& info, Buffer& memory) const override { return inner_->take_packed(of_inner(info), memory); }
  std::vector<StackPiece> map_pieces(const TensorInfo& info) const override { return inner_->map_pieces(of_inner(info)); }
  void read(const TensorInfo& info, const Tensor& out) const override {
    if (!turns(info)) return inner_->read(of_inner(info), out);
    const Buffer memory(out.bytes());
    const Tensor stored(memory.data(), out.dtype, {info.shape[1], info.shape[0]});
    inner_->read(of_inner(info), stored);
    turn(Tensor(out.data, out.dtype, {info.shape[0], info.shape[1]}), stored);
  }

 private:
  bool turns(const TensorInfo& info) const { return info.shape.size() == 2 && !info.packed && is_turned(ends_, info.name); }
  const TensorInfo& of_inner(const TensorInfo& info) const {
    const TensorInfo* found = inner_->find(info.name);
    if (!found) throw Error(ErrorKind::internal, info.name + ": not in its source");
    return *found;
  }

  std::shared_ptr<TensorSource> inner_;
  std::vector<std::string> ends_;
  std::vector<TensorInfo> infos_;
};

}  // namespace

bool is_turned(const std::vector<std::string>& ends, const std::string& tensor) {
  return std::ranges::any_of(ends, [&](const std::string& end) { return tensor.ends_with("." + end + ".weight"); });
}

std::shared_ptr<TensorSource> turned_source(std::shared_ptr<TensorSource> source, std::vector<std::string> ends) {
  return std::make_shared<TurnedSource>(std::move(source), std::move(ends));
}

void turn(const Tensor& to, const Tensor& from) {
  const int64_t rows = from.rows(), cols = from.cols();
  const size_t size = size_of(from.dtype);
  const char* in = static_cast<const char*>(from.data);
  char* out = static_cast<char*>(to.data);
  constexpr int64_t kTile = 32;  // whose rows and columns stay in the cache
  for (int64_t row = 0; row < rows; row += kTile)
    for (int64_t col = 0; col < cols; col += kTile)
      for (int64_t r = row; r < std::min(rows, row + kTile); ++r)
        for (int64_t c = col; c < std::min(cols, col + kTile); ++c)
          std::memcpy(out + static_cast<size_t>(c * rows + r) * size, in + static_cast<size_t>(r * cols + c) * size, size);
}

}  // namespace loraine
