// Python's pickles, read by a machine that runs nothing: it knows the opcodes of protocols 2 to 5 that plain data are made of; what a class
// or a call would mean is said by who reads (torch's state dicts, cookies). Values lie in one list and refer to each other by index, so
// that nothing recurses and a value that holds itself is no matter. Format: Python's pickletools.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace loraine {

class PickleMachine {
 public:
  virtual ~PickleMachine() = default;

 protected:
  using Index = uint32_t;
  enum class Kind : uint8_t { none, boolean, integer, real, text, tuple, list, dict, global, made };
  struct Value {
    Kind kind = Kind::none;
    int64_t integer = 0;       // integer, boolean; real: its bits
    std::string text;          // text; global: module and name with a blank between
    std::vector<Index> items;  // tuple, list; dict: keys and values in turn
    int what = 0;              // made: which kind of its own the reader made, whose other fields mean what it says
  };

  // bytes: of the pickle; `most` values are taken.
  PickleMachine(std::string_view bytes, size_t most) : bytes_(bytes), most_(most) {}

  // Runs it to its end; the value that is the whole.
  Index run();

  // Throws bad_data that names the file and place() in it.
  [[noreturn]] virtual void refuse(const std::string& message) const = 0;
  virtual void check_protocol(unsigned version) const = 0;
  // The value of a class or function, by its "module name".
  virtual Index global(std::string name) = 0;
  // What a call of `callable` gives, and a new object of a class.
  virtual Index call(Index callable, Index arguments) = 0;
  virtual Index persistent(Index id) = 0;
  // An object gets attributes.
  virtual void build(Index object, Index attributes) = 0;

  size_t place() const { return opcode_at_; }
  Index add(Value value);
  Value& value(Index index) { return values_[index]; }
  const Value& value(Index index) const { return values_[index]; }
  const std::vector<Value>& values() const { return values_; }
  // The value, refused with `name` where it is of another kind.
  const Value& get(Index index, Kind kind, const char* name) const;

 private:
  void step(unsigned char code);
  std::string_view take(size_t bytes);
  uint64_t number(size_t bytes);  // little-endian
  std::string_view line();
  void push(Index index) { stack_.push_back(index); }
  void push(Kind kind, int64_t integer = 0, std::string text = {}, std::vector<Index> items = {});
  void push_text(std::string_view text);
  size_t bottom() const { return marks_.empty() ? 0 : marks_.back(); }
  Index pop();
  Index top() const;
  std::vector<Index> pop_to_mark();
  std::vector<Index> pop_some(size_t count);
  void set_items(const std::vector<Index>& pairs);
  void append(const std::vector<Index>& items);
  void remember(uint64_t place);
  void recall(uint64_t place);

  const std::string_view bytes_;
  const size_t most_;
  size_t at_ = 0, opcode_at_ = 0;
  std::vector<Value> values_;
  std::vector<Index> stack_;
  std::vector<size_t> marks_;  // places in the stack
  std::unordered_map<uint64_t, Index> memo_;
};

}  // namespace loraine
