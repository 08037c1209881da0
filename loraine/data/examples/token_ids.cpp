// See token_ids.h.
#include "loraine/data/examples/token_ids.h"

#include <algorithm>
#include <memory>

namespace loraine {
namespace {

class OwnIds : public IdPiece {
 public:
  explicit OwnIds(std::vector<int32_t> ids) : IdPiece(ids.data()), ids_(std::move(ids)) {}

 private:
  std::vector<int32_t> ids_;
};

}  // namespace

TokenIds::TokenIds(std::vector<int32_t> ids) {
  if (ids.empty()) return;
  const size_t size = ids.size();
  *this = TokenIds(std::make_unique<OwnIds>(std::move(ids)).release(), 0, size);
}

TokenIds::TokenIds(IdPiece* piece, size_t first, size_t size)
    : piece_(piece), first_(static_cast<uint32_t>(first)), size_(static_cast<uint32_t>(size)) {
  if (piece_) ++piece_->users_;
}

bool operator==(const TokenIds& a, const TokenIds& b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

}  // namespace loraine
