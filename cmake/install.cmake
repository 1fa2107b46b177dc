# cmake --install: the program, the systemd unit, and the documents with the sample configuration as examples.
# Nothing is written to etc/, so that installing a new version never touches a configuration in use.
include(GNUInstallDirs)
if(TARGET pgsluice)
  install(TARGETS pgsluice RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(TARGETS pgsluice_helper RUNTIME DESTINATION libexec/pgsluice)
endif()
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/pgsluice)
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/pgsluice FILES_MATCHING PATTERN "*.md")
install(DIRECTORY etc/ DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/pgsluice/examples FILES_MATCHING PATTERN "*.ini" PATTERN "*.txt")
# The unit names the program where it is installed, which is known only now (--prefix).
install(FILES etc/pgsluice.socket DESTINATION lib/systemd/system)
install(CODE "
  set(unit \"\${CMAKE_INSTALL_PREFIX}/lib/systemd/system/pgsluice.service\")
  message(STATUS \"Installing: \$ENV{DESTDIR}\${unit}\")
  file(READ \"${CMAKE_SOURCE_DIR}/etc/pgsluice.service\" text)
  string(REPLACE \"/usr/bin/pgsluice\" \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}/pgsluice\" text \"\${text}\")
  file(WRITE \"\$ENV{DESTDIR}\${unit}\" \"\${text}\")
")
