# Every driver at its defaults through the built program: tests/drivers/run, in its bounded form (label drivers).
add_test(NAME drivers_self_test COMMAND ${CMAKE_SOURCE_DIR}/tests/drivers/run --self-test)
set_tests_properties(drivers_self_test PROPERTIES LABELS lint)
if(TARGET pgsluice)
  add_test(NAME drivers COMMAND ${CMAKE_SOURCE_DIR}/tests/drivers/run --seconds 2)
  set_tests_properties(drivers PROPERTIES LABELS drivers RUN_SERIAL ON TIMEOUT 900
                       ENVIRONMENT "PGSLUICE_BIN=$<TARGET_FILE:pgsluice>")
endif()
