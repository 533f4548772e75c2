#ifndef SD_SIM_JSON_H_
#define SD_SIM_JSON_H_

#include <cstdint>
#include <string>

namespace sd {

/*! \brief Writes compact JSON; keys come out in the order they are written. */
class JsonWriter {
 public:
  JsonWriter& BeginObject() { return Open('{'); }
  JsonWriter& EndObject() { return Close('}'); }
  JsonWriter& BeginArray() { return Open('['); }
  JsonWriter& EndArray() { return Close(']'); }
  JsonWriter& Key(const std::string& key);
  JsonWriter& Int(int64_t value) { return Raw(std::to_string(value)); }
  JsonWriter& Uint(uint64_t value) { return Raw(std::to_string(value)); }
  JsonWriter& String(const std::string& value);
  /*! \brief A value that already is JSON. */
  JsonWriter& Raw(const std::string& value);
  const std::string& str() const { return text_; }

 private:
  JsonWriter& Open(char c);
  JsonWriter& Close(char c);
  void Separate();
  void Quote(const std::string& value);

  std::string text_;
  bool comma_ = false;
};

}  // namespace sd

#endif  // SD_SIM_JSON_H_
