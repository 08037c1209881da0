// Calls of tools as they are written, before they are whole. Used by answer_reader.cpp.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "loraine/text/calls/call_format.h"

namespace loraine {

struct CallPiece {
  std::string name;       // where a call begins, its name; else empty
  std::string arguments;  // more of its arguments: JSON text, all pieces together
  bool ends = false;      // nothing of it follows
  bool begins() const { return !name.empty(); }
};

// Reads on in a text that begins with calls in the spelling of call_grammar.h; the text only grows.
class CallPieces {
 public:
  void read(const CallFormat& format, std::string_view text, std::vector<CallPiece>& out);
  size_t begun() const { return begun_; }  // calls so far

 private:
  bool find_call(const CallFormat& format, std::string_view text, std::vector<CallPiece>& out);
  size_t at_ = 0, begun_ = 0;
  int depth_ = 0;  // of brackets; 0: between calls
  bool in_arguments_ = false, in_text_ = false, escaped_ = false;
};

}  // namespace loraine
