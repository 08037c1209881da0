// See sentencepiece_file.h.
#include "loraine/io/vocabulary/sentencepiece_file.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <set>

#include "loraine/core/error.h"
#include "loraine/io/files/json_text.h"

namespace loraine {
namespace {

constexpr size_t kMostPieces = 1u << 24, kLongestPiece = 1024;

struct Field {
  uint64_t number = 0;
  int wire = 0;           // 0 varint, 1 eight bytes, 2 a length and bytes, 5 four bytes
  uint64_t value = 0;     // of 0, 1 and 5
  std::string_view body;  // of 2
};

class Message {
 public:
  Message(std::string_view bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(ErrorKind::bad_data, fmt::format("{}: {}", file_, what), "Is this SentencePiece's own model file, completely downloaded?");
  }

  bool next(Field& field) {
    if (at_ == bytes_.size()) return false;
    const uint64_t key = varint();
    field.number = key >> 3;
    field.wire = static_cast<int>(key & 7);
    if (field.number == 0) refuse("has a field without a number");
    switch (field.wire) {
      case 0: field.value = varint(); break;
      case 1: field.value = fixed(8); break;
      case 2: {
        const uint64_t length = varint();
        if (length > bytes_.size() - at_)
          refuse(fmt::format("a part of {} bytes does not fit in the {} that are left", length, bytes_.size() - at_));
        field.body = bytes_.substr(at_, length);
        at_ += length;
        break;
      }
      case 5: field.value = fixed(4); break;
      default: refuse(fmt::format("has a field of the unknown kind {}", field.wire));
    }
    return true;
  }

  Message inside(const Field& field) const { return {text(field), file_}; }
  std::string_view text(const Field& field) const { return expect(field, 2), field.body; }
  int64_t number(const Field& field) const { return expect(field, 0), static_cast<int64_t>(field.value); }
  float real(const Field& field) const { return expect(field, 5), std::bit_cast<float>(static_cast<uint32_t>(field.value)); }

 private:
  void expect(const Field& field, int wire) const {
    if (field.wire != wire) refuse(fmt::format("field {} is of kind {}, expected {}", field.number, field.wire, wire));
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (at_ == bytes_.size()) refuse("ends inside a number");
      const auto byte = static_cast<unsigned char>(bytes_[at_++]);
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    refuse("has a number of more than ten bytes");
  }

  uint64_t fixed(size_t width) {
    if (bytes_.size() - at_ < width) refuse("ends inside a number");
    uint64_t value = 0;
    for (size_t i = width; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes_[at_ + i]);
    at_ += width;
    return value;
  }

  std::string_view bytes_;
  const std::string& file_;
  size_t at_ = 0;
};

Piece read_piece(Message message, size_t id) {
  Piece piece;
  for (Field field; message.next(field);) {
    if (field.number == 1) piece.text = message.text(field);
    else if (field.number == 2) piece.score = message.real(field);
    else if (field.number == 3) {
      const int64_t type = message.number(field);
      if (type < 1 || type > 6) message.refuse(fmt::format("piece {} is of the unknown type {}", id, type));
      piece.type = static_cast<PieceType>(type);
    }
  }
  if (piece.text.empty() || piece.text.size() > kLongestPiece || !is_utf8(piece.text) || piece.text.find('\0') != std::string::npos)
    message.refuse(fmt::format("piece {} is {}, expected UTF-8 of 1 to {} bytes", id, in_quotes(piece.text), kLongestPiece));
  if (!std::isfinite(piece.score)) message.refuse(fmt::format("the score of piece {} {} is not a number", id, in_quotes(piece.text)));
  return piece;
}

void read_trainer(Message message, SentencePieceFile& file) {
  for (Field field; message.next(field);) switch (field.number) {
      case 3: file.model_type = message.number(field); break;
      case 24: file.whitespace_as_suffix = message.number(field) != 0; break;
      case 35: file.byte_fallback = message.number(field) != 0; break;
      case 40: file.unk_id = message.number(field); break;
      case 41: file.bos_id = message.number(field); break;
      case 42: file.eos_id = message.number(field); break;
      case 43: file.pad_id = message.number(field); break;
      default: break;  // how it was trained
    }
}

void read_normalizer(Message message, SentencePieceFile& file) {
  for (Field field; message.next(field);) switch (field.number) {
      case 2: file.character_map = message.text(field); break;
      case 3: file.add_dummy_prefix = message.number(field) != 0; break;
      case 4: file.remove_extra_whitespaces = message.number(field) != 0; break;
      case 5: file.escape_whitespaces = message.number(field) != 0; break;
      default: break;  // its name, and the rules that the map was made of
    }
}

}  // namespace

SentencePieceFile read_sentencepiece(std::string_view bytes, const std::string& file) {
  SentencePieceFile model;
  Message message(bytes, file);
  for (Field field; message.next(field);) {
    if (field.number == 1) {
      if (model.pieces.size() == kMostPieces) message.refuse(fmt::format("has more than {} pieces", kMostPieces));
      model.pieces.push_back(read_piece(message.inside(field), model.pieces.size()));
    } else if (field.number == 2) {
      read_trainer(message.inside(field), model);
    } else if (field.number == 3) {
      read_normalizer(message.inside(field), model);
    }
  }
  if (model.pieces.empty()) message.refuse("has no pieces");
  std::set<std::string_view> seen;
  for (const Piece& piece : model.pieces)
    if (!seen.insert(piece.text).second) message.refuse(fmt::format("the piece {} stands twice", in_quotes(piece.text)));
  const auto count = static_cast<int64_t>(model.pieces.size());
  for (int64_t* id : {&model.bos_id, &model.eos_id, &model.pad_id})
    if (*id < 0 || *id >= count) *id = -1;
  if (model.unk_id < 0 || model.unk_id >= count || model.pieces[static_cast<size_t>(model.unk_id)].type != PieceType::unknown)
    message.refuse(fmt::format("the unknown piece, id {}, is not among its {} pieces", model.unk_id, count));
  return model;
}

}  // namespace loraine
