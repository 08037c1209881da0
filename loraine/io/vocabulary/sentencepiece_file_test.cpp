// SentencePiece's files, byte by byte. Whole ones: tests/golden/tokenizer_files_test.cpp.
#include "loraine/io/vocabulary/sentencepiece_file.h"

#include <gtest/gtest.h>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/vocabulary/sentencepiece_tokenizer.h"

namespace loraine::sentencepiece_file_test {
namespace {

using namespace std::string_literals;

std::string part(int field, const std::string& body) {
  return static_cast<char>(field << 3 | 2) + std::string(1, static_cast<char>(body.size())) + body;
}
std::string piece(const std::string& text, int type) {
  return part(1, part(1, text) + "\x15\0\0\x80\xbf"s + "\x18" + static_cast<char>(type));
}  // score -1

const std::string kUnknown = piece("<unk>", 2);

TEST(SentencePieceFile, ReadsPiecesAndSettings) {
  const std::string never = "\xc0\x02\0\xc8\x02\x7f\xd0\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"s;  // ids 0, 127 and -1
  const SentencePieceFile file = read_sentencepiece(
      kUnknown + piece("a", 1) + part(2, "\x18\x02\x98\x02\x01"s + never) + part(3, "\x18\0\x20\0"s) + part(9, "?"), "m");
  ASSERT_EQ(file.pieces.size(), 2u);
  EXPECT_EQ(file.pieces[1].text, "a");
  EXPECT_EQ(file.pieces[1].score, -1);
  EXPECT_EQ(file.model_type, 2);
  EXPECT_TRUE(file.byte_fallback);
  EXPECT_EQ(file.bos_id, -1);  // 127 is no piece
  EXPECT_EQ(file.eos_id, -1);
  EXPECT_FALSE(file.add_dummy_prefix);
  EXPECT_FALSE(file.remove_extra_whitespaces);
  EXPECT_TRUE(file.escape_whitespaces);
}

TEST(SentencePieceFile, BrokenOnesAreErrors) {
  for (const std::string& bytes :
       {""s, "x"s, "\x0a\x05"s, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"s, "\x0b"s, "\0\0"s, "\x0a"s, "\x0d\0\0"s, piece("a", 1),
        kUnknown + kUnknown, kUnknown + piece("\xff", 1), kUnknown + piece("", 1), kUnknown + piece("a", 7), kUnknown + piece("a\0b"s, 1),
        kUnknown + part(1, part(1, "a") + "\x15\0\0\xc0\x7f"s), kUnknown + part(2, "\x1a\0"s), kUnknown + "\x08\x01"s})
    EXPECT_THROW(read_sentencepiece(bytes, "m"), Error) << testing::PrintToString(bytes);
  for (const char* type : {"\x18\x03", "\x18\x04", "\x18\x02\xc0\x01\x01"})
    EXPECT_THROW(sentencepiece_parts(read_sentencepiece(kUnknown + part(2, type), "m"), {}, "m"), Error);
}

TEST(SentencePieceFile, EveryCutIsAnErrorOrASmallerFile) {
  const std::string whole = read_file(LORAINE_SOURCE_DIR "/tests/golden/tokenizers/plain_unigram/tokenizer.model");
  for (size_t size = 0; size < whole.size(); size += 7) try {
      EXPECT_LE(read_sentencepiece(std::string_view(whole).substr(0, size), "m").pieces.size(), 1000u);
    } catch (const Error& error) { EXPECT_EQ(error.kind, ErrorKind::bad_data); }
}

}  // namespace
}  // namespace loraine::sentencepiece_file_test
