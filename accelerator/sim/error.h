#ifndef SD_SIM_ERROR_H_
#define SD_SIM_ERROR_H_

#include <stdexcept>
#include <string>

namespace sd {

/*!
 * \brief Base of the errors that a program, a configuration or a caller can cause.
 *
 * `kind` is the name under which the runtime raises it; what() says what was found, what was
 * expected and what to do.
 */
class Error : public std::runtime_error {
 public:
  Error(const char* kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  const char* kind() const { return kind_; }

 private:
  const char* kind_;
};

/*! \brief An instruction stream is invalid. */
class ProgramError : public Error {
 public:
  explicit ProgramError(const std::string& message) : Error("sd_tvm.ProgramError", message) {}
};

/*! \brief The queues of a program wait for each other. */
class DeadlockError : public Error {
 public:
  explicit DeadlockError(const std::string& message) : Error("sd_tvm.DeadlockError", message) {}
};

/*! \brief A configuration text is malformed. */
class ConfigError : public Error {
 public:
  explicit ConfigError(const std::string& message) : Error("sd_tvm.ConfigError", message) {}
};

/*! \brief A program needs buffers that the configuration does not have. */
class ConfigMismatchError : public Error {
 public:
  explicit ConfigMismatchError(const std::string& message)
      : Error("sd_tvm.ConfigMismatchError", message) {}
};

}  // namespace sd

#endif  // SD_SIM_ERROR_H_
