// Token ids that do not change once they are made: a list of their own, or a stretch of a piece that many examples share, in memory or in a
// mapped file (example_store.h). A copy shares them. What examples are made of.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

namespace loraine {

// Memory that ids lie in; it is there as long as a TokenIds refers to it.
class IdPiece {
 public:
  explicit IdPiece(const int32_t* data) : data_(data) {}
  virtual ~IdPiece() = default;
  IdPiece(const IdPiece&) = delete;
  IdPiece& operator=(const IdPiece&) = delete;
  const int32_t* data() const { return data_; }
  // So many ids from `first` on were read, and are not soon again.
  virtual void passed(size_t /*first*/, size_t /*count*/) {}

 private:
  friend class TokenIds;
  const int32_t* data_;
  std::atomic<int64_t> users_{0};
};

class TokenIds {
 public:
  using value_type = int32_t;
  using size_type = size_t;
  using iterator = const int32_t*;
  using const_iterator = const int32_t*;

  TokenIds() = default;
  TokenIds(std::vector<int32_t> ids);
  TokenIds(std::initializer_list<int32_t> ids) : TokenIds(std::vector<int32_t>(ids)) {}
  TokenIds(IdPiece* piece, size_t first, size_t size);  // below 2^32 each
  TokenIds(const TokenIds& other) : TokenIds(other.piece_, other.first_, other.size_) {}
  TokenIds(TokenIds&& other) noexcept { swap(other); }
  TokenIds& operator=(TokenIds other) noexcept {
    swap(other);
    return *this;
  }
  ~TokenIds() {
    if (piece_ && --piece_->users_ == 0) delete piece_;
  }

  const int32_t* data() const { return piece_ ? piece_->data() + first_ : nullptr; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const int32_t* begin() const { return data(); }
  const int32_t* end() const { return data() + size_; }
  int32_t operator[](size_t i) const { return data()[i]; }
  int32_t front() const { return data()[0]; }
  // They share the memory, and must lie within these.
  TokenIds part(size_t first, size_t count) const { return {piece_, first_ + first, count}; }
  TokenIds first(size_t count) const { return part(0, count); }
  bool is_same_place(const TokenIds& other) const { return piece_ == other.piece_ && first_ == other.first_ && size_ == other.size_; }
  // They were read, and are not soon again: those of a file stop counting as this process's memory.
  void let_go() const {
    if (size_ > 0) piece_->passed(first_, size_);
  }
  friend bool operator==(const TokenIds& a, const TokenIds& b);

 private:
  void swap(TokenIds& other) noexcept {
    std::swap(piece_, other.piece_);
    std::swap(first_, other.first_);
    std::swap(size_, other.size_);
  }
  IdPiece* piece_ = nullptr;
  uint32_t first_ = 0, size_ = 0;
};

}  // namespace loraine
